"""The SHA-256 of every file of a folder, in a file that ``sha256sum -c`` reads.

<sha256>  <path in the folder>
# <sha256 of the lines above>
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from cifar_jax.files import flush_to_disk, sha256_of

NAME = "SHA256SUMS"


class ManifestError(ValueError):
    """A folder that is not as its manifest says: names the file and the reason."""


def dump(sums: Mapping[str, str]) -> bytes:
    """The content of a manifest.

    >>> print(dump({"a": "0" * 64}).decode()[:68].strip())
    0000000000000000000000000000000000000000000000000000000000000000  a

    Args:
      sums: the SHA-256 in hexadecimal digits of each file, by its path with slashes.
    """
    lines = "".join(f"{value}  {name}\n" for name, value in sorted(sums.items())).encode()
    return lines + f"# {hashlib.sha256(lines).hexdigest()}\n".encode()


def parse(content: bytes) -> dict[str, str]:
    """The inverse of :func:`dump`; raises ManifestError for anything that it does not write."""
    lines, separator, _ = content.removesuffix(b"\n").rpartition(b"\n# ")
    try:
        entries = [line.split("  ", 1) for line in lines.decode().split("\n")]
        sums = {name: value for value, name in entries} if separator else {}
    except ValueError as error:
        raise ManifestError("not a list of SHA-256 sums") from error
    for name in sums:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ManifestError(f"{name!r} must be a path in the folder")
    if not sums or dump(sums) != content:
        raise ManifestError("its own SHA-256 does not hold")
    return sums


def write(folder: Path) -> None:
    """Write the manifest of all files in a folder, and wait until all of it is on the disk."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    sums = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
    (folder / NAME).write_bytes(dump(sums))
    for path in [*folder.rglob("*"), folder]:
        flush_to_disk(path)


def check(folder: Path) -> None:
    """Compare a folder with its manifest; files that it does not name are passed over.

    Raises:
      ManifestError: naming the first file that is missing, damaged or cannot be read.
    """
    path = folder / NAME
    try:
        for name, expected in parse(path.read_bytes()).items():
            path = folder / name
            value = sha256_of(path)
            if value != expected:
                size = os.stat(path).st_size
                raise ManifestError(f"SHA-256 must be {expected}, not {value} ({size:,} bytes)")
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror or error}") from error
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error
