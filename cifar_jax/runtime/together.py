"""Several runs at once, in one compiled loop; each has a workdir, checkpoints and results."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from cifar_jax.config import Config, validate
from cifar_jax.runtime import environment, kernels, loggers
from cifar_jax.runtime.inputs import Inputs, load_inputs
from cifar_jax.runtime.members import Members, fit, varied_fields
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.session import Session
from cifar_jax.runtime.signals import Stop
from cifar_jax.runtime.teacher import load_teacher
from cifar_jax.runtime.train import ends_in_log, finish, finished, open_session
from cifar_jax.runtime.trainer import TrainingError
from cifar_jax.runtime.workdir import Workdir
from cifar_jax.state import TrainState


class Run(NamedTuple):
    """One of several runs.

    Attributes:
      config: of it.
      folder: its workdir.
      name: shown before its lines; that of the folder if empty.
    """

    config: Config
    folder: Path
    name: str = ""

    def shown(self) -> str:
        """What tells it apart on a screen."""
        return self.name or self.folder.name


def train_together(
    runs: Sequence[Run],
    *,
    command: str = "",
    allow_config_change: bool = False,
    stop: Stop | None = None,
    log: Sequence[str] = (),
    vectorized: bool | None = None,
) -> dict[Path, str]:
    """Train several runs side by side, or go on with them; results.json has what each gives.

    Runs that stand at the same step share a compiled loop, so those that were killed between two
    checkpoints go on in two loops, one after another. What some of ``runs`` differ in is traced in
    each loop, so that with ``jax.lax.map`` it ends with the same bits.

    Args:
      runs: any two of them :func:`cifar_jax.runtime.members.fit`.
      command: what the user typed, for the record.
      allow_config_change: see :func:`cifar_jax.runtime.train.train`, which says what is raised.
      stop: see there.
      log: see there.
      vectorized: see :class:`cifar_jax.runtime.members.Members`.

    Returns:
      Why runs could not go on, by folder: those whose losses or gradients stayed non-finite. The
      others are finished.

    Raises:
      ValueError: for runs that do not fit; and what ``train`` raises.
    """
    for one in runs:
        validate(one.config)
        if not fit(runs[0].config, one.config):
            raise ValueError(f"runs must fit, not {runs[0].folder} and {one.folder}")
    loggers.require(log)
    kernels.network(runs[0].config)
    waiting = [one for one in runs if not finished(Workdir(one.folder), one.config)]
    teacher = load_teacher(runs[0].config) if waiting else None  # the same for all
    failed: dict[Path, str] = {}
    sessions: list[Session] = []
    with contextlib.ExitStack() as stack:
        for one in waiting:
            run, config = Workdir(one.folder), one.config
            notes = stack.enter_context(run.claimed())
            if not finished(run, config):  # by the process that has just let go of the folder
                session = open_session(
                    run,
                    config,
                    notes,
                    allow_config_change=allow_config_change,
                    name=one.shown(),
                    teacher=teacher,
                )
                opened = loggers.opened(log, run, config, session.history, session.say)
                session.loggers = stack.enter_context(opened)
                sessions.append(session)
        if not sessions:
            return failed
        stack.enter_context(ends_in_log(sessions))  # while the folders are claimed
        inputs = load_inputs(sessions[0].config, report=sessions[0].say)
        Progress(1, 1).line(inputs.describe())
        varied = varied_fields([one.config for one in runs])
        for step in sorted({session.step for session in sessions}, reverse=True):
            group = [session for session in sessions if session.step == step]
            with environment.loop_memory_in_words(len(group), group[0].config.train.batch_size):
                found = _train(group, inputs, command, stop or Stop(), vectorized, varied)
            for session in [session for session in group if session.run.path in found]:
                session.run.log_end(found[session.run.path])
                sessions.remove(session)  # of what ends the others its log says nothing
            failed |= found
    return failed


def _train(
    sessions: list[Session],
    inputs: Inputs,
    command: str,
    stop: Stop,
    vectorized: bool | None,
    varied: Sequence[str],
) -> dict[Path, str]:
    configs, teacher = [session.config for session in sessions], sessions[0].trainer.teacher
    members = Members(configs, vectorized=vectorized, teacher=teacher, varied=varied)
    states = _states(sessions, members)
    going = [session for session in sessions if not session.is_over()]
    if going:
        Progress(1, 1).line(f"compiling the loop of {len(sessions)} runs")
        members.train_chunk  # noqa: B018  # compiled at its first use
        for session in sessions:
            session.side_by_side = max(session.side_by_side, len(sessions))
            session.tell_compiled(members.compile_seconds, loaded=members.loaded)
            session.trainer.compile_seconds += members.compile_seconds
        _loop(sessions, members, states, inputs, stop)
    failed = {sessions[i].run.path: message for i, message in members.failed.items()}
    for session, train_state in zip(sessions, states, strict=True):
        if session.run.path not in failed:
            session.tell_patience()
            try:
                finish(session, train_state, inputs, command)
            except TrainingError as error:  # figures that are not finite
                failed[session.run.path] = str(error)
    return failed


def _states(sessions: list[Session], members: Members) -> list[TrainState]:
    if sessions[0].last is None:
        return members.initial_states()
    return [jax.device_get(session.restored()) for session in sessions]


def _loop(
    sessions: list[Session], members: Members, states: list[TrainState], inputs: Inputs, stop: Stop
) -> None:
    """Train until all are over; ``states`` end as the last of each."""
    first, sums = sessions[0], members.join([session.partial for session in sessions])
    images = first.config.steps_per_epoch * first.config.train.batch_size * len(sessions)
    steps, per_epoch = first.step, first.config.steps_per_epoch
    progress = Progress(
        first.config.train.epochs,
        images,
        start_epoch=steps // per_epoch,
        start_images=steps % per_epoch * images // per_epoch,
    )
    for session in sessions:
        session.progress = progress
    resident = members.resident(inputs.train)
    with stop.postponed(), progress:
        while not _all_over(sessions, members) and stop.signum is None:
            epoch = max(int(one.step) for one in states) // per_epoch + 1
            moved, sums = members.train_epoch(
                list(states),
                epoch,
                resident,
                progress,
                so_far=sums,
                stop=lambda: stop.signum is not None,
            )
            for i, own in enumerate(members.split(sums)):
                if not sessions[i].is_over() and i not in members.failed:
                    states[i] = moved[i]
                    with _recorded(members, i):
                        sessions[i].trained(states[i], own, inputs.validation, stop)
            sums = None if members.is_whole(max(moved, key=lambda one: int(one.step))) else sums
        for i, (session, train_state) in enumerate(zip(sessions, states, strict=True)):
            if int(train_state.step) == len(session.history) * per_epoch:  # else it has no row
                with _recorded(members, i):
                    session.leave(train_state)


@contextlib.contextmanager
def _recorded(members: Members, member: int) -> Iterator[None]:
    """Let what is wrong with one run's numbers end that run alone."""
    try:
        yield
    except TrainingError as error:
        members.failed.setdefault(member, str(error))


def _all_over(sessions: list[Session], members: Members) -> bool:
    members.over = {i for i, session in enumerate(sessions) if session.is_over()}
    return len(members.over | members.failed.keys()) == len(sessions)
