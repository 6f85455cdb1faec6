"""Files that are whole or absent, failures to write that say what is missing, and a lock."""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cifar_jax.errors import ConfigError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class WriteError(OSError):
    """What could not be written: one line that names the path and the reason."""


@contextlib.contextmanager
def writing(path: Path, needed: int = 0) -> Iterator[None]:
    """Say what was written, and where, when the block fails to.

    Args:
      path: that is written to in the block.
      needed: bytes, where known.

    Raises:
      WriteError: instead of an OSError; for a full disk it has the bytes needed and free.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(describe_failure(path, error, needed)) from error


def describe_failure(
    path: Path, error: OSError, needed: int = 0, what: str = "cannot be written"
) -> str:
    """One line about a file or folder: path, what is wrong, why, and bytes of a full disk."""
    text = f"{path}: {what}: {error.strerror or error}"
    if error.errno not in FULL:
        return text
    wanted = f"{needed:,} bytes needed, " if needed else ""
    return f"{text}: {wanted}{free_bytes(path):,} free"


def make_folder(path: Path) -> None:
    """Make a folder, and those that it is in; raises ConfigError when it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(describe_failure(path, error, what="cannot be made")) from error


def free_bytes(path: Path) -> int:
    """Bytes that may still be written beside ``path``, which need not exist."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


@contextlib.contextmanager
def replacing(path: Path, needed: int = 0) -> Iterator[Path]:
    """Write a file under another name and rename it when it is whole and on the disk.

    Args:
      path: what to make or replace; its folder must exist.
      needed: bytes, where known.

    Yields:
      A temporary path in the same folder, with the same ending. If the block raises, it is
      removed and ``path`` stays as it was.

    Raises:
      WriteError: when it cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    with writing(path, needed):
        try:
            yield temporary
            replace_durably(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_leftovers(*paths: Path) -> None:
    """Remove what processes that died left of :func:`replacing` these files."""
    for path in paths:
        for leftover in path.parent.glob(f".{path.stem}.*{path.suffix}"):
            middle = leftover.name.removeprefix(f".{path.stem}.").removesuffix(path.suffix)
            if middle.isdecimal() and leftover.is_file():
                leftover.unlink(missing_ok=True)


def set_aside(path: Path, reason: str) -> Path:
    """Rename to ``<name>.<reason>``, or the first ``<name>.<reason>.<n>`` that is free."""
    names = itertools.chain([reason], (f"{reason}.{n}" for n in itertools.count(2)))
    free = (path.with_name(f"{path.name}.{name}") for name in names)
    return path.rename(next(new for new in free if not new.exists()))


def replace_durably(temporary: Path, path: Path) -> None:
    """Rename ``temporary`` to ``path`` in the same folder, with both flushed to the disk."""
    flush_to_disk(temporary)
    os.replace(temporary, path)
    flush_to_disk(path.parent)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with replacing(path, len(content)) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def locked(path: Path, busy: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock among processes; the system takes it from one that dies.

    Args:
      path: of the lock's file, which is made and stays; its content names the holder.
      busy: told the holder when there is one. If it returns, the lock is waited for.

    Yields:
      Nothing.

    Raises:
      OSError: when the file cannot be made, or on a file system without locks.
    """
    with path.open("a+", errors="replace") as file:  # of another program, for one
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            busy(file.read() or "another process")
            fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):  # on a full disk the lock holds without its name
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
