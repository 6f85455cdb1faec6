"""The data set as four arrays, and the hashes that say it is the real one. uint8 throughout."""

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from cifar_jax.errors import CifarJaxError

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

SHA256: Mapping[str, str] = MappingProxyType(
    {
        "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
        "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    }
)
"""SHA-256 of each array's bytes, in the official order, C-contiguous."""

Report = Callable[[str], None]
"""Receives one line of progress, without a newline at its end."""


class DataError(CifarJaxError):
    """The data set cannot be had; the message is one line that says why."""

    status = 2


class Unavailable(DataError):
    """A source is absent or cannot be reached; nothing is wrong with what it holds."""


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with the home folder in place of ``~``; raises DataError where that is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(f"{path}: the home folder of {Path(path).parts[0]} is not known") from error


class Dataset(NamedTuple):
    """Images and labels of both splits, on the host.

    Attributes:
      train_images: uint8 [N, 32, 32, 3], height, width, RGB; N is 50,000 for CIFAR-10.
      train_labels: uint8 [N], indices into ``CLASS_NAMES``.
      test_images: uint8 [M, 32, 32, 3]; M is 10,000 for CIFAR-10.
      test_labels: uint8 [M].
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def sha256(array: np.ndarray) -> str:
    """SHA-256 of an array's bytes in C order, as hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def verify(dataset: Dataset, expected: Mapping[str, str] = SHA256) -> Dataset:
    """Checks that the arrays are byte for byte what they must be.

    Args:
      dataset: the arrays to check.
      expected: SHA-256 of each array's bytes, by the array's name.

    Returns:
      The same data set.

    Raises:
      DataError: an array is not uint8 or has another hash.
    """
    for name, array in dataset._asdict().items():
        if array.dtype != np.uint8:
            raise DataError(f"{name} must be uint8, is {array.dtype}")
    with ThreadPoolExecutor(len(dataset)) as pool:  # hashlib lets go of the interpreter lock
        hashes = dict(zip(Dataset._fields, pool.map(sha256, dataset), strict=True))
    for name, value in hashes.items():
        if value != expected[name]:
            raise DataError(f"{name}: SHA-256 must be {expected[name]}, is {value}")
    return dataset
