"""The folder of a run: its layout, its config and its log.

config.json     every field, as trained
metrics.jsonl   one line an epoch
log.txt         what was said, with times
checkpoints/    see checkpoint.py
results.json    written last: a run that has it is finished
*.png           curves, confusion matrix, augmented images
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_jax.config import Config, ConfigError, from_dict, to_dict
from cifar_jax.files import replacing, write_json

FREE = {  # fields that decide nothing of a result: a run may go on with others
    ("data", "data_dir"),
    ("model", "convolutions"),  # the same sums in another order: bits may differ
    ("train", "checkpoint_every"),
    ("train", "keep_checkpoints"),
}


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

    def start(self, config: Config) -> None:
        """Make the folder for a run, or check that the run in it has the same config.

        A run without a checkpoint has nothing to lose: it starts anew with this config.

        Raises:
          ConfigError: when the folder cannot be made, or holds a run with another config.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.checkpoints.exists() and not self.results.exists():
                write_json(self.config, to_dict(config))
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be a workdir: {error.strerror}") from error
        self.require_same(config)

    def require_same(self, config: Config, *, besides: Sequence[str] = ()) -> None:
        """Check that the run has the same config.

        Args:
          config: to compare with config.json. ``FREE`` fields may differ.
          besides: sections that may differ too.

        Raises:
          ConfigError: naming the first field that differs and both values.
        """
        trained = self.read_config()
        old, new = to_dict(trained), to_dict(config)
        if (trained.data.source == "synthetic") == (config.data.source == "synthetic"):
            old["data"]["source"] = config.data.source  # the same images, from another place
        for section, fields in new.items():
            for name, value in fields.items():
                free = section in besides or (section, name) in FREE
                if not free and old[section][name] != value:
                    raise ConfigError(
                        f"{self.path} holds a run with {section}.{name} {old[section][name]}, "
                        f"not {value}: use another --workdir"
                    )

    def read_config(self) -> Config:
        """Read config.json; raises ConfigError when it is missing or broken."""
        try:
            return from_dict(json.loads(self.config.read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(f"{self.config}: cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self.config}: not a run's config: {error}") from error

    def read_results(self) -> dict[str, Any] | None:
        """The results of a finished run, else None."""
        if not self.results.exists():
            return None
        try:
            return json.loads(self.results.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{self.results}: not a run's results: {error}") from error

    def append_log(self, text: str) -> None:
        """Add a line to the log, with the date and time in UTC."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{now} {text}\n")

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write metrics.jsonl anew."""
        with replacing(self.metrics) as temporary:
            temporary.write_text("".join(map(_line, history)), encoding="utf-8")

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add an epoch to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(_line(row))


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
