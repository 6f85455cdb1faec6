"""Our own copy of the four arrays: one uncompressed .npz, verified each time it is read."""

import errno
from pathlib import Path

import numpy as np

from cifar_jax.data.dataset import SHA256, DataError, Dataset, Report, Unavailable, verify
from cifar_jax.errors import one_line
from cifar_jax.files import remove_leftovers, replacing

NAME = "cifar10.npz"


def load(data_dir: Path, report: Report) -> Dataset:
    """Reads and verifies ``data_dir/cifar10.npz``.

    Args:
      data_dir: folder of the cache.
      report: not called; every source has the same arguments.

    Returns:
      The verified data set.

    Raises:
      Unavailable: there is no such file, the system cannot read it, or memory is too small.
      DataError: the file is damaged.
    """
    del report
    return read(data_dir / NAME)


def read(path: Path, expected=SHA256) -> Dataset:
    """Reads a cache file and verifies its arrays against ``expected`` (see `verify`)."""
    if not path.exists():
        raise Unavailable(f"no {path}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            dataset = Dataset(*(arrays[name] for name in Dataset._fields))
        return verify(dataset, expected)
    except MemoryError as error:
        raise Unavailable(f"{path} cannot be read: {one_line(error)}") from error
    except Exception as error:  # damaged bytes can end in any error of zipfile and numpy
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise Unavailable(f"{path} cannot be read: {error.strerror}") from error
        raise DataError(f"{path} is damaged: {one_line(error)}") from error


def save(data_dir: Path, dataset: Dataset) -> Path:
    """Writes the cache so that it is there whole or not at all; returns its path."""
    path = data_dir / NAME
    remove_leftovers(path)
    needed = sum(array.nbytes for array in dataset)
    with replacing(path, needed) as temporary, temporary.open("wb") as file:
        np.savez(file, **dataset._asdict())
    return path
