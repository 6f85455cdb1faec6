"""A trace of some steps of training, for https://ui.perfetto.dev and xprof."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax

from cifar_jax.errors import ConfigError, line_with_type

WARM_UP = 1  # chunks of a session before the trace
TRACE = "perfetto_trace.json.gz"  # the name that jax gives it


@contextlib.contextmanager
def profiled(
    folder: Path, steps: int, chunk_steps: int, left: int, say: Callable[[str], None]
) -> Iterator[Callable[[], AbstractContextManager[Any]]]:
    """What to put around each chunk, as :class:`Profiler` does it; nothing for 0 steps."""
    if not steps:
        yield contextlib.nullcontext
        return
    profiler = Profiler(folder, steps, chunk_steps, left, say)
    try:
        yield profiler.chunk
    finally:
        profiler.stop()


class Profiler:
    """Traces whole chunks of steps, those after the first of a session. It changes no bit."""

    def __init__(
        self, folder: Path, steps: int, chunk_steps: int, left: int, say: Callable[[str], None]
    ):
        """Prepare to trace.

        Args:
          folder: for the trace; jax makes ``plugins/profile/<time>`` in it.
          steps: to trace at least; rounded up to whole chunks.
          chunk_steps: of a chunk.
          left: steps that the session will train.
          say: told where the trace is, or why there is none.

        Raises:
          ConfigError: when the session is shorter than that.
        """
        most = left - WARM_UP * chunk_steps
        if not 1 <= steps <= most:
            raise ConfigError(
                f"--profile must be at least 1 and at most the {max(most, 0)} steps that are left "
                f"after the first {WARM_UP * chunk_steps}, not {steps}"
            )
        self._folder, self._steps, self._chunk_steps, self._say = folder, steps, chunk_steps, say
        self._chunks = -(-steps // chunk_steps)
        self._seen = 0
        self._tracing = False
        self._before: set[Path] = set()

    @contextlib.contextmanager
    def chunk(self) -> Iterator[None]:
        """Trace what is inside, if it is its turn: a chunk until its metrics are on the host."""
        if self._seen == WARM_UP:
            with self._saying_what_fails():
                self._before = {*self._folder.rglob(TRACE)}
                options = jax.profiler.ProfileOptions()
                options.python_tracer_level = 0  # Python's calls would be most of the events
                jax.profiler.start_trace(
                    self._folder, create_perfetto_trace=True, profiler_options=options
                )
                self._tracing = True
        with jax.profiler.StepTraceAnnotation("train_chunk", step_num=self._seen):
            yield
        self._seen += 1
        if self._seen == WARM_UP + self._chunks:
            self.stop()

    def stop(self) -> None:
        """Write the trace, if one has begun."""
        if not self._tracing:
            return
        self._tracing = False
        with self._saying_what_fails():
            jax.profiler.stop_trace()
            (trace,) = {*self._folder.rglob(TRACE)} - self._before
            chunks = self._seen - WARM_UP
            self._say(
                f"profile of {chunks * self._chunk_steps} steps ({self._steps} asked for, in whole "
                f"chunks of {self._chunk_steps}): {trace}"
            )

    @contextlib.contextmanager
    def _saying_what_fails(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of a full disk, or another trace; the run is worth more
            self._say(f"--profile: no trace: {line_with_type(error)}")
