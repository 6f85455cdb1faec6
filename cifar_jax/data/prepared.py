"""A data set that TensorFlow Datasets has prepared, read without TensorFlow.

Only a folder that exists is read: asking TFDS by name would try to prepare the data set, and
offline it hangs for minutes before it says so.
"""

import os
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cifar_jax.data.dataset import SHA256, DataError, Dataset, Report, Unavailable, expanded, verify
from cifar_jax.data.png import decode_png
from cifar_jax.errors import one_line

RECORD_LIMIT = 2**20  # bytes of one example; the real ones have about 2,400

CHUNK = 1_000  # examples read at once


def load(data_dir: Path, report: Report) -> Dataset:
    """Reads ``cifar10/3.*`` under ``data_dir``, $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Args:
      data_dir: the first place to look.
      report: told of what is read, which takes a while, and of what is damaged.

    Returns:
      The verified data set, in the official order.

    Raises:
      Unavailable: there is no prepared data set.
      DataError: none that is there can be read, or is the right one.
    """
    places = [data_dir, expanded(os.environ.get("TFDS_DATA_DIR") or data_dir)]
    places.append(Path(os.path.expanduser("~/tensorflow_datasets")))
    damage = None
    for place in dict.fromkeys(places):
        for info in sorted(place.glob("cifar10/3.*/dataset_info.json"), reverse=True):
            report(f"cifar10: reading what TFDS prepared in {info.parent}")
            if damage:  # the last is told by who asked
                report(f"cifar10: tfds: {damage}")
            try:
                return read(info.parent)
            except DataError as error:
                damage = error
    if damage:
        raise damage
    raise Unavailable(f"no prepared cifar10/3.* in {', '.join(map(str, dict.fromkeys(places)))}")


def read(folder: Path, expected: Mapping[str, str] = SHA256) -> Dataset:
    """Reads a prepared data set, either of array_record or of TFRecord files.

    Args:
      folder: the one with ``dataset_info.json``.
      expected: SHA-256 of each array (see `verify`).

    Returns:
      The verified data set; examples sorted by their ``id``, which is the official order.

    Raises:
      DataError: it cannot be read, or its arrays have other hashes.
    """
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(str(folder))
        return verify(Dataset(*_split(builder, "train"), *_split(builder, "test")), expected)
    except DataError as error:
        raise DataError(f"{folder}: {error}") from error
    except Exception as error:  # TFDS and what it stands on raise anything
        raise DataError(f"{folder} cannot be read: {one_line(error)}") from error


def _split(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a split, sorted by the digits of ``id`` (train_00000, ...)."""
    examples = []
    for example in _examples(builder, split):
        match = re.fullmatch(rb"\w+_(\d+)", example["id"])
        if not match:
            raise DataError(f"an id must be like train_00000, is {example['id']!r}")
        examples.append((int(match[1]), decode_png(example["image"]), example["label"]))
    if not examples:
        raise DataError(f"the split {split} is empty")
    examples.sort(key=lambda example: example[0])
    _, images, labels = zip(*examples, strict=True)
    return np.stack(images), np.array(labels, np.uint8)


def _examples(builder: Any, split: str) -> Iterator[Mapping[str, Any]]:
    """Examples in the order of the files, images as PNG."""
    import tensorflow_datasets as tfds

    encoded = {"image": tfds.decode.SkipDecoding()}
    if builder.info.file_format.value == "tfrecord":
        for path in builder.info.splits[split].filepaths:
            for record in read_tfrecord(Path(path)):
                yield builder.info.features.deserialize_example_np(record, decoders=encoded)
        return
    source = builder.as_data_source(split, decoders=encoded)
    for start in range(0, len(source), CHUNK):
        yield from source.__getitems__(range(start, min(start + CHUNK, len(source))))


def read_tfrecord(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: length, its checksum, data, its checksum, little-endian.

    Checksums are skipped: the arrays' hashes decide.
    """
    with path.open("rb") as file:
        while header := file.read(12):
            length = struct.unpack("<Q", header[:8].ljust(8, b"\xff"))[0]
            if length > RECORD_LIMIT:
                raise DataError(f"{path.name}: a record must have at most {RECORD_LIMIT:,} bytes")
            data = file.read(length + 4)
            if len(data) != length + 4:
                raise DataError(f"{path.name} ends in the middle of a record")
            yield data[:length]
