"""The folder of a run: its layout, its config, its log, and who may use it.

config.json     every field, as trained
metrics.jsonl   one line an epoch
log.txt         what was said, with times
checkpoints/    see checkpoint.py
results.json    written last: a run that has it is finished
*.png           curves, confusion matrix, augmented images
report.html     of the command report; tensorboard/, wandb/ and profile/ of options of train
.lock           held by the process that trains
"""

import contextlib
import datetime
import errno
import json
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_jax.config import Config, from_dict, to_dict
from cifar_jax.errors import ConfigError, one_line
from cifar_jax.files import (
    describe_failure,
    locked,
    remove_leftovers,
    write_json,
    write_text,
    writing,
)
from cifar_jax.runtime.compatibility import differing
from cifar_jax.runtime.kinds import RESULTS, require_kind

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
PICTURES = ("curves.png", "confusion.png", "augmentations.png")
NEEDED = {  # without which results.json is not that of a run
    *("test_accuracy", "ema_test_accuracy", "tta", "tta_accuracy", "per_class_accuracy"),
    *("selected_epoch", "epochs", "parameters", "images_per_second"),
}


CARD = "card.json"  # of exported weights


def holds(folder: Path) -> str:
    """What a folder holds: "run" or "weights", exported; "" for both or neither."""
    is_run, is_exported = (folder / "config.json").exists(), (folder / CARD).exists()
    return "" if is_run == is_exported else "run" if is_run else "weights"


class Workdir:
    """The paths of a run, and what is written to them."""

    def __init__(self, path: str | Path):
        """Name the folder; nothing is made or read yet."""
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.log = self.path / "log.txt"
        self.results = self.path / "results.json"
        self.checkpoints = self.path / "checkpoints"

    @contextlib.contextmanager
    def claimed(self) -> Iterator[list[str]]:
        """Make the folder and hold it; remove what a process that died in it has left.

        Yields:
          What there is to say of it: nothing, but on a file system without locks.

        Raises:
          ConfigError: when it cannot be made or written to, another process holds it, or it is no
            run's and would lose a file.
        """

        def refuse(holder: str) -> None:
            raise ConfigError(f"{self.path}: in use by {holder}; use another --workdir")

        if not os.fsdecode(self.path).isprintable():  # bytes that are not UTF-8, for one
            raise ConfigError(f"{str(self.path)!r}: the name of a workdir must be printable UTF-8")
        lock = self.path / ".lock"
        notes: list[str] = []
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                try:
                    stack.enter_context(locked(lock, refuse))
                except OSError as error:
                    if error.errno not in NO_LOCKS:
                        raise
                    notes.append(f"{lock}: {error.strerror}: see that only one run uses the folder")
                if self.checkpoints.exists() and not self.checkpoints.is_dir():
                    raise ConfigError(f"{self.checkpoints}: must be a folder")
                self.require_own()
                names = [self.path / name for name in PICTURES]
                remove_leftovers(self.config, self.metrics, self.results, *names)
            except OSError as error:
                text = describe_failure(self.path, error, what="cannot be a workdir")
                raise ConfigError(text) from error
            yield notes

    def require_own(self) -> None:
        """Refuse a folder that is no run's and has files of these names; raises ConfigError."""
        if self.config.exists() or self.checkpoints.exists():
            return
        for path in (self.metrics, self.log, *(self.path / name for name in PICTURES)):
            if path.exists() and path.stat().st_size:
                text = "has no config.json beside it, so it is no run's"
                raise ConfigError(f"{path} {text}: use another --workdir, or remove it")

    def write_config(self, config: Config) -> None:
        """Write config.json."""
        write_json(self.config, to_dict(config))

    def require_same(
        self, config: Config, *, besides: Sequence[str] = (), holds: str = "another run"
    ) -> None:
        """Check that config.json is the same but for what decides nothing of a result.

        Args:
          config: to compare with.
          besides: sections that may differ too.
          holds: what the folder holds if they do not, for the message.

        Raises:
          ConfigError: naming the fields that differ and both values.
        """
        if found := differing(self.read_config(), config, besides):
            named = ", ".join(map(str, found))
            raise ConfigError(f"{self.path} holds {holds} ({named}): use another --workdir")

    def read_config(self) -> Config:
        """Read config.json; raises ConfigError when it is missing or broken."""
        try:
            return from_dict(json.loads(self.config.read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(f"{self.config}: cannot be read: {error.strerror}") from error
        except ConfigError as error:  # of another version, or edited
            raise ConfigError(f"{self.config}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{self.config}: not a run's config: {error}") from error

    def read_results(self, *, besides: Collection[str] = ()) -> dict[str, Any]:
        """Read results.json; raises ConfigError if it is broken or lacks one of ``besides``."""
        try:
            results = json.loads(self.results.read_text(encoding="utf-8"))
            if missing := NEEDED.union(besides) - set(results):
                raise ValueError(f"it has no {min(missing)}")
            for name, kind in ((name, RESULTS[name]) for name in RESULTS if name in results):
                needed = name in besides and isinstance(kind, tuple)  # so it must not be null
                require_kind(results[name], kind[0] if needed else kind, name)
            return results
        except (ValueError, TypeError, RecursionError) as error:
            raise ConfigError(f"{self.results}: not a run's results: {error}") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl: a row an epoch; raises ConfigError when it is broken.

        A run that has finished no epoch has none; a line that is being written is left out.
        """
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_bytes().split(b"\n")[:-1]
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                rows.append(row)
                validated = "ema_validation_accuracy" in rows[0]
                for key in ("epoch", "train_loss", *["ema_validation_accuracy"] * validated):
                    row[key]
                for key, value in row.items():
                    if not math.isfinite(value):
                        raise ValueError(f"{key} must be finite, not {value}")
            except (
                ValueError,
                TypeError,
                KeyError,
                AttributeError,
                OverflowError,
                RecursionError,
            ) as error:
                raise ConfigError(
                    f"{self.metrics}: line {number} is not a row of metrics: {error!r}"
                ) from error
        return rows

    def append_log(self, text: str) -> None:
        """Add a line to the log, with the date and time in UTC."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._append(self.log, f"{now} {text}\n")

    def log_end(self, why: object) -> None:
        """Say in the log why an unfinished run has ended, if that can be written."""
        text = one_line(why)
        if not self.results.exists():
            with contextlib.suppress(OSError):
                self.append_log(f"ended: {text:.1000}")

    def log_size(self) -> int:
        """Bytes in the log."""
        return self.log.stat().st_size if self.log.exists() else 0

    def mend_log(self, saved: int) -> list[str]:
        """End a line that a process that died has left unfinished.

        Args:
          saved: bytes that the log had when the checkpoint that the run goes on from was saved.

        Returns:
          What there is to say of what came after that, or is missing.
        """
        content = self.log.read_bytes() if self.log.exists() else b""
        if content and not content.endswith(b"\n"):
            self._append(self.log, "\n")
        if len(content) < saved:
            return [f"the log has lost {saved - len(content):,} bytes"]
        again = len(re.findall(rb"^\S+ epoch \d+/\d+ ", content[saved:], re.MULTILINE))
        return [f"epochs in the log that the checkpoint has not: {again}"] if again else []

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write metrics.jsonl anew."""
        write_text(self.metrics, "".join(map(_line, history)))

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add an epoch to metrics.jsonl."""
        self._append(self.metrics, _line(row))

    def _append(self, path: Path, text: str) -> None:
        with writing(path, len(text)), path.open("ab") as file:
            file.write(text.encode("utf-8", "surrogateescape"))  # names in another encoding


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
