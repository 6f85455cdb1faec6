"""Reads known members of a .tar.gz as a stream. Nothing is extracted, so no name is trusted."""

import gzip
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from cifar_jax.data.dataset import DataError

OTHER_LIMIT = 4 * 2**20  # bytes of the archive beyond the wanted members, headers included


class _Bounded:
    """A file that refuses to yield more bytes than expected, whatever the compression hides."""

    def __init__(self, file: BinaryIO, limit: int):
        self._file = file
        self._left = limit

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise DataError("it unpacks to more than the known members")
        return data


def read_members(path: Path, sizes: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    """Yields the wanted members of a gzipped tar archive, in the archive's order.

    Args:
      path: the archive.
      sizes: the exact size in bytes of each wanted member, by its full name.

    Yields:
      The name and the bytes of each wanted member, each once.

    Raises:
      DataError: the archive is damaged or incomplete, or holds what it must not: a link, a device,
        a name outside the archive, a wanted member of another kind or size, too many bytes.
    """
    missing = set(sizes)
    try:
        with gzip.open(path) as file:
            bounded = _Bounded(file, sum(sizes.values()) + OTHER_LIMIT)  # pyright: ignore
            with tarfile.open(fileobj=bounded, mode="r|") as archive:  # pyright: ignore
                for member in archive:
                    name = _checked_name(member)
                    if name not in sizes:
                        continue
                    if name not in missing:
                        raise DataError(f"{name} is there twice")
                    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                        raise DataError(f"{name} must be a regular file")
                    if member.size != sizes[name]:
                        raise DataError(
                            f"{name} must have {sizes[name]:,} bytes, has {member.size:,}"
                        )
                    content = archive.extractfile(member)
                    data = content.read() if content else b""
                    if len(data) != sizes[name]:
                        raise DataError(f"{name} ends after {len(data):,} bytes")
                    missing.remove(name)
                    yield name, data
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as error:
        raise DataError(f"{path} is damaged or incomplete: {error}") from error
    if missing:
        raise DataError(f"{path}: {', '.join(sorted(missing))} missing")


def _checked_name(member: tarfile.TarInfo) -> str:
    """The member's name without ``./``; refuses whatever an honest archive does not hold."""
    name = posixpath.normpath(member.name)
    if name.startswith(("/", "../")) or name == "..":
        raise DataError(f"{member.name!r} is a name outside the archive")
    if member.issparse() or not (member.isreg() or member.isdir()):
        raise DataError(f"{member.name!r} must be a regular file or a folder")
    return name
