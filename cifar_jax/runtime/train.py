"""Training from the first step, or from the last checkpoint, to results.json."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cifar_jax.config import Config, from_dict, validate
from cifar_jax.errors import CifarJaxError, ConfigError, line_with_type
from cifar_jax.files import WriteError, write_json
from cifar_jax.runtime import cluster, environment, kernels, loggers
from cifar_jax.runtime.checkpoint import CheckpointError
from cifar_jax.runtime.history import selected_step
from cifar_jax.runtime.inputs import Inputs, load_inputs
from cifar_jax.runtime.profiling import profiled
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.recovery import recover
from cifar_jax.runtime.session import Session
from cifar_jax.runtime.signals import Stop
from cifar_jax.runtime.teacher import Teacher, load_teacher
from cifar_jax.runtime.workdir import Workdir
from cifar_jax.state import TrainState


def train(
    config: Config,
    workdir: str | Path,
    *,
    command: str = "",
    allow_config_change: bool = False,
    stop: Stop | None = None,
    log: Sequence[str] = (),
    profile: int = 0,
) -> dict[str, Any]:
    """Train a network, or go on with a run that was interrupted.

    The epoch is chosen by the accuracy of the averaged weights on the validation split (the last
    epoch where there is no split); the test set is scored once, at the end.

    Args:
      config: of the run.
      workdir: folder of the run; see workdir.py. A finished run in it is returned as it is. Of
        several processes only the first writes there, see cluster.py.
      command: what the user typed, for the record.
      allow_config_change: go on with other values of the fields that decide a result; which ones
        can change is in compatibility.py.
      stop: of ``signals.listening``, for which Ctrl-C and SIGTERM let the chunk of steps finish and
        save it; by default signals are left alone, and a run goes on from its last checkpoint.
      log: of "tensorboard" and "wandb", what gets the figures besides metrics.jsonl.
      profile: steps to trace into the folder ``profile`` of the workdir; 0: none.

    Returns:
      What results.json holds; in other processes than the first nothing, but of a finished run.

    Raises:
      ConfigError: for a config that :func:`cifar_jax.config.validate` refuses, and for processes
        of one run whose configs or code are not the same; when the workdir
        holds a run with another config, or is in use; for a logger whose package is missing, and
        for more steps to trace than are left.
      DataError: when the data set cannot be had.
      WeightsError: when the teacher's weights cannot be read.
      CheckpointError: when no checkpoint is whole, or one is of another network.
      TrainingError: when losses or gradients stay non-finite, or figures are.
      OutOfMemory: when the device has too little memory.
      WriteError: when the disk is full, or the workdir cannot be written to.
      Interrupted: when it was asked to stop; the same call goes on.
    """
    cluster.require_same(validate(config))
    loggers.require(log)
    with cluster.own_workdir(Path(workdir)) as own:
        run = Workdir(own)
        if not cluster.is_first():
            log, profile = (), 0
        if results := finished(run, config):
            if profile:
                raise ConfigError(f"--profile: {run.path} is finished: use another --workdir")
            return results
        kernels.network(config)  # refuses before anything is written, as the next line does
        teacher = load_teacher(config)
        with run.claimed() as notes:
            if results := finished(run, config):  # by the process that has just let go of it
                return results
            session = open_session(
                run, config, notes, allow_config_change=allow_config_change, teacher=teacher
            )
            trainer, say = session.trainer, session.say
            left = trainer.total_steps - session.step
            trace = profiled(run.path / "profile", profile, trainer.chunk_steps, left, say)
            with (
                ends_in_log([session]),  # of the next one's words
                environment.memory_in_words("train.batch_size", config.train.batch_size),
                trace as around_chunk,
                loggers.opened(log, run, config, session.history, say) as opened,
            ):
                session.around_chunk, session.loggers = around_chunk, opened
                inputs = load_inputs(config, report=say)
                say(f"{inputs.describe()}; workdir {run.path}")
                train_state = session.train(inputs, stop or Stop())
                return finish(session, train_state, inputs, command) if cluster.is_first() else {}


@contextlib.contextmanager
def ends_in_log(sessions: Sequence[Session]) -> Iterator[None]:
    """Say in the logs of the sessions why the block has ended, where it has by an exception."""
    try:
        yield
    except BaseException as error:
        for session in sessions:
            session.run.log_end(error)
        raise


def finish(
    session: Session, train_state: TrainState, inputs: Inputs, command: str
) -> dict[str, Any]:
    """Score a run that is over; write its pictures and its results."""
    results = {"command": command, **session.results(train_state, inputs)}
    try:
        from cifar_jax.runtime.pictures import draw_pictures  # matplotlib takes a second to import

        draw_pictures(session.config, session.run, session.history, inputs, results)
    except (CifarJaxError, WriteError):
        raise
    except Exception as error:  # such as matplotlib's, as it is set up here: results come first
        session.say(f"no pictures: {line_with_type(error)}")
    write_json(session.run.results, results)
    session.loggers.finish(results)
    session.say(f"done: {session.run.results}")
    return results


def finished(run: Workdir, config: Config) -> dict[str, Any] | None:
    """The results of a finished run, else None."""
    if not run.results.exists():
        return None
    run.require_same(config, holds="a finished run, which does not go on")
    return run.read_results()


def open_session(
    run: Workdir,
    config: Config,
    notes: list[str],
    *,
    allow_config_change: bool = False,
    name: str = "",
    teacher: Teacher | None = None,
) -> Session:
    """Find the checkpoint to go on from, if there is one, and say all that is to be known of it.

    Args:
      run: claimed.
      config: of the run.
      notes: of the claim.
      allow_config_change: see :func:`train`.
      name: shown before its lines.
      teacher: see :class:`cifar_jax.runtime.trainer.Trainer`.

    Returns:
      The session, of which nothing is compiled yet; and see :func:`train` for what is raised.
    """
    try:
        found = recover(run.checkpoints, _needs, notes.append)
        with environment.memory_in_words("train.batch_size", config.train.batch_size):
            session = Session(run, config, found, teacher)
        session.name = name
        session.allow_changes(allow_config_change)
        if session.last is None:
            _require_nothing_lost(run, config)
        notes += session.notes()
        notes += run.mend_log(session.saved.get("log_bytes", 0))
        run.write_metrics(session.history)
        run.write_config(config)
        session.say(environment.device_line())
        session.say(kernels.describe(config))
        if session.trainer.teacher:
            session.say(session.trainer.teacher.describe())
        while notes:
            session.say(notes.pop(0))
        return session
    except BaseException:
        for note in notes:  # of checkpoints that were set aside, for one
            Progress(1, 1).line(note)
        raise


def _needs(progress: dict[str, Any]) -> int | None:
    """The step of the checkpoint that a run restores at its end, from what one of it says."""
    if "config" not in progress:
        raise ConfigError("it has no config")
    trained_with = from_dict(progress["config"])  # not the run's, which may yet be refused
    return selected_step(trained_with.train, progress["history"])


def _require_nothing_lost(run: Workdir, config: Config) -> None:
    """Refuse to start from the first step where epochs were trained that were surely saved."""
    epochs = run.metrics.read_bytes().count(b"\n") if run.metrics.exists() else 0
    if run.config.exists():
        config = run.read_config()  # they were saved as often as it said
    unsaved = 1 if config.data.validation_examples else config.train.checkpoint_every
    if epochs > unsaved:
        raise CheckpointError(
            f"{run.checkpoints}: there is no checkpoint, but {run.metrics} has {epochs} epochs: "
            "put the checkpoints back, or use another --workdir"
        )
