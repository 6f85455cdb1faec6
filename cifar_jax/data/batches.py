"""The official binary batches: what they hold, their MD5, and how they become arrays.

A record is one label byte and 3,072 pixel bytes, planar RGB; a batch has 10,000 records.
"""

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from cifar_jax.data.dataset import DataError, Dataset

ARCHIVE_NAME = "cifar-10-binary.tar.gz"
ARCHIVE_SIZE = 170_052_171  # bytes
ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
FOLDER_NAME = "cifar-10-batches-bin"

RECORD_SIZE = 1 + 3 * 32 * 32  # bytes
BATCH_RECORDS = 10_000

MD5: Mapping[str, str] = MappingProxyType(
    {
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
        "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    }
)
"""MD5 of each batch file; the training batches in their order, then the test batch."""


def md5(data: bytes | memoryview) -> str:
    """MD5 as hexadecimal digits; it names a damaged file, it does not keep an attacker out."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def check(name: str, data: bytes, expected: Mapping[str, str] = MD5) -> bytes:
    """Returns ``data`` if it has the MD5 of the batch file ``name``; else raises `DataError`."""
    if (value := md5(data)) != expected[name]:
        raise DataError(f"{name}: MD5 must be {expected[name]}, is {value}")
    return data


def decode(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Turns the bytes of records into arrays.

    Args:
      data: whole records, 3,073 bytes each.

    Returns:
      Images, uint8 [N, 32, 32, 3], and labels, uint8 [N].
    """
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD_SIZE)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].copy()


def encode(images: np.ndarray, labels: np.ndarray) -> bytes:
    """Turns arrays into the bytes of records; the inverse of `decode`."""
    planar = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels[:, None], planar], axis=1).tobytes()


def assemble(parts: Mapping[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str]) -> Dataset:
    """Joins decoded batches to a data set.

    Args:
      parts: images and labels of each batch, by name.
      names: the training batches in their order, then the test batch.

    Returns:
      The data set, not verified.
    """
    train = [parts[name] for name in names[:-1]]
    return Dataset(
        np.concatenate([images for images, _ in train]),
        np.concatenate([labels for _, labels in train]),
        *parts[names[-1]],
    )
