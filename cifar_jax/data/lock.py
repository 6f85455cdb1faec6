"""The lock that lets one process fetch at a time."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from cifar_jax.data.dataset import Report
from cifar_jax.files import locked

LOCK_NAME = ".cifar10.lock"


@contextlib.contextmanager
def exclusive(data_dir: Path, report: Report) -> Iterator[None]:
    """Holds the folder's lock, waiting for the process that has it.

    A folder that cannot be written to needs no lock: nothing can be fetched into it.

    Args:
      data_dir: the folder, made if need be.
      report: told who is waited for.

    Yields:
      Nothing.
    """
    path = data_dir / LOCK_NAME
    with contextlib.ExitStack() as stack:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(
                locked(path, lambda who: report(f"cifar10: waiting for {who} that holds {path}"))
            )
        except OSError as error:
            report(
                f"cifar10: {path} cannot be written to or locked ({error.strerror}); "
                "going on without"
            )
        yield
