"""The lock that lets one process fetch at a time."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from cifar_jax.data.dataset import Report

LOCK_NAME = ".cifar10.lock"


@contextlib.contextmanager
def exclusive(data_dir: Path, report: Report) -> Iterator[None]:
    """Holds the folder's lock, waiting for the process that has it.

    The system takes the lock from a process that dies. A folder that cannot be written to needs
    no lock: nothing can be fetched into it.

    Args:
      data_dir: the folder, made if need be.
      report: told who is waited for.

    Yields:
      Nothing.
    """
    path = data_dir / LOCK_NAME
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        report(f"cifar10: {data_dir} cannot be written to ({error.strerror}); going on without")
        yield
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            report(f"cifar10: waiting for {file.read() or 'the process'} that holds {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # a network file system without locks
            report(f"cifar10: {path} cannot be locked ({error.strerror}); going on without")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
