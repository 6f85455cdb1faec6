"""TensorBoard and Weights & Biases: where a run's figures go besides metrics.jsonl."""

import contextlib
import importlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from cifar_jax.config import Config, to_dict
from cifar_jax.errors import ConfigError, line_with_type
from cifar_jax.files import write_text
from cifar_jax.runtime.workdir import Workdir

FINISH_SECONDS = 300.0  # to send what is left at the end of a run, as on a network that is down

Row = Mapping[str, Any]  # of metrics.jsonl
Results = Mapping[str, Any]


class Logger(Protocol):
    """Takes the figures of one session of a run.

    It is made from the folder of the run, its config and the epochs that are done. These are
    logged only where no earlier session has logged any.
    """

    def epoch(self, row: Row) -> None:
        """Add an epoch that was trained, a row of metrics.jsonl."""

    def finish(self, results: Results | None) -> None:
        """Add what results.json holds, None where a run was stopped, and close."""


class TensorBoard:
    """Events in the folder ``tensorboard`` of the run, on the disk after each epoch.

    tensorboardX's ``SummaryWriter`` writes in a thread: on a full disk that thread ends unheard,
    and the tenth event after that waits for ever. The writer that it uses says what fails.
    """

    def __init__(self, run: Workdir, config: Config, history: Sequence[Row]):
        """Begin a file of events."""
        writer: Any = importlib.import_module("tensorboardX.event_file_writer")
        self._proto: Any = importlib.import_module("tensorboardX.proto.event_pb2")
        folder = run.path / "tensorboard"
        new = not any(folder.glob("events.*"))
        folder.mkdir(exist_ok=True)
        self._step = 0 if new or not history else history[-1]["step"]
        suffix = f".{os.getpid()}.{time.monotonic_ns()}"
        self._writer = writer.EventsWriter(str(folder / "events"), suffix)
        if not new:  # TensorBoard then forgets steps that are trained again
            start = self._proto.SessionLog(status=self._proto.SessionLog.START)
            self._writer.write_event(self._proto.Event(step=self._step + 1, session_log=start))
        for row in history if new else ():
            self.epoch(row)

    def epoch(self, row: Row) -> None:
        """Write the figures of an epoch."""
        self._step = row["step"]
        self._write("history", row)

    def finish(self, results: Results | None) -> None:
        """Write the figures of the results."""
        try:
            if results:
                self._write("results", results)
        finally:
            self._writer.close()

    def _write(self, group: str, figures: Mapping[str, Any]) -> None:
        event = self._proto.Event(wall_time=time.time(), step=self._step)
        for tag, value in numbers(group, figures).items():
            event.summary.value.add(tag=tag, simple_value=value)
        self._writer.write_event(event)
        self._writer.flush()


class WandB:
    """A run of Weights & Biases, which goes on under the id in ``wandb/id.txt`` of the workdir.

    What is logged offline is sent by ``wandb sync``, which replaces a run instead of adding to it:
    there each session logs all epochs.
    """

    def __init__(self, run: Workdir, config: Config, history: Sequence[Row]):
        """Begin the run, or go on with it."""
        wandb: Any = importlib.import_module("wandb")
        path = run.path / "wandb" / "id.txt"
        new = not path.exists()
        identity = secrets.token_hex(4) if new else path.read_text().strip()
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "cifar_jax"),
            name="/".join(run.path.absolute().parts[-2:]),
            id=identity,
            resume=None if new else "allow",
            reinit="create_new",  # of several runs side by side each has its own
            dir=run.path,
            config=to_dict(config),
            # log.txt has what is printed; what is not sent within this time stays on the disk
            settings=wandb.Settings(console="off", finish_timeout=FINISH_SECONDS),
        )
        path.parent.mkdir(exist_ok=True)
        write_text(path, identity + "\n")
        for row in history if new or self._run.offline else ():
            self.epoch(row)

    def epoch(self, row: Row) -> None:
        """Log the figures of an epoch."""
        self._run.log(numbers("history", row), step=row["step"])

    def finish(self, results: Results | None) -> None:
        """Put the figures of the results into the summary, and send what is left."""
        self._run.summary.update(numbers("results", results or {}))
        self._run.finish(exit_code=0 if results else 1)


LOGGERS: dict[str, tuple[str, Callable[..., Logger]]] = {  # name and extra: package, class
    "tensorboard": ("tensorboardX", TensorBoard),
    "wandb": ("wandb", WandB),
}


def require(names: Sequence[str]) -> None:
    """Raise ConfigError for the first logger that there is not, or whose package is missing."""
    for name in names:
        if name not in LOGGERS:
            raise ConfigError(f"--log must be of {', '.join(LOGGERS)}, not {name}")
        package = LOGGERS[name][0]
        try:
            importlib.import_module(package)
        except Exception as error:  # a package that is there may fail in any way
            raise ConfigError(
                f"--log {name}: the package {package} is needed ({line_with_type(error)}): "
                f"pip install -e '.[{name}]'"
            ) from error


class Loggers:
    """Those of a run. One that fails is given up with a line: the run is worth more.

    It is not, while there is nothing of it yet: then the user can put right what is wrong.
    """

    def __init__(self, say: Callable[[str], None]):
        """Begin without any."""
        self._say = say
        self._open: dict[str, Logger] = {}

    def begin(self, name: str, run: Workdir, config: Config, history: Sequence[Row]) -> None:
        """Make one; raises ConfigError when that fails and there is no history yet."""
        try:
            self._open[name] = LOGGERS[name][1](run, config, history)
        except Exception as error:  # whatever the other package raises
            if not history:
                raise ConfigError(f"--log {name}: cannot begin: {line_with_type(error)}") from error
            self._give_up(name, error)

    def epoch(self, row: Row) -> None:
        """Tell all of them of an epoch."""
        for name, logger in list(self._open.items()):
            try:
                logger.epoch(row)
            except Exception as error:
                self._give_up(name, error)
                del self._open[name]
                with contextlib.suppress(Exception):  # it has been said that it fails
                    logger.finish(None)

    def finish(self, results: Results | None) -> None:
        """Tell all of them of the results, and close them; again does nothing."""
        while self._open:
            name, logger = self._open.popitem()
            try:
                logger.finish(results)
            except Exception as error:
                self._give_up(name, error)

    def _give_up(self, name: str, error: Exception) -> None:
        with contextlib.suppress(OSError):  # the log may be on the same full disk
            self._say(f"--log {name}: given up: {line_with_type(error)}")


@contextlib.contextmanager
def opened(
    names: Sequence[str],
    run: Workdir,
    config: Config,
    history: Sequence[Row],
    say: Callable[[str], None],
) -> Iterator[Loggers]:
    """Loggers that are closed in any case.

    Args:
      names: of :data:`LOGGERS`.
      run: the folder.
      config: of the run.
      history: the epochs that are done.
      say: told each logger that fails.

    Raises:
      ConfigError: when one cannot begin and the run has no epoch yet.
    """
    loggers = Loggers(say)
    try:
        for name in dict.fromkeys(names):
            loggers.begin(name, run, config, history)
        yield loggers
    finally:
        loggers.finish(None)


def numbers(group: str, figures: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of nested figures, by path.

    >>> numbers("results", {"accuracy": 0.9, "tta": "flip", "per_class": {"cat": 0.8}})
    {'results/accuracy': 0.9, 'results/per_class/cat': 0.8}
    """
    found = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found |= numbers(f"{group}/{name}", value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{group}/{name}"] = value
    return found
