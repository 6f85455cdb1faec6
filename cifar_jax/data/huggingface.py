"""The parquet files of uoft-cs/cifar10 on Hugging Face: PNG images, decoded and verified.

Hugging Face's loader takes the batches in the order in which the official Python archive holds
them, so the rows are the official ones with whole batches changed in place. `official_order` puts
them back by their MD5. It does not depend on which order that is, and the arrays' hashes refuse
anything else.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cifar_jax.data import batches, transfer
from cifar_jax.data.dataset import DataError, Dataset, Report, verify
from cifar_jax.data.png import decode_png
from cifar_jax.errors import one_line

ENDPOINT = "https://huggingface.co"  # unless the environment's HF_ENDPOINT names another
FILES = "datasets/uoft-cs/cifar10/resolve/main/plain_text/{split}-00000-of-00001.parquet"
LIMIT = 2**28  # bytes of one file; the real ones have 120 and 24 MB


def check(data_dir: Path) -> None:
    """Raises `Unavailable` where the host cannot be reached."""
    del data_dir
    transfer.check(_url("test"))


def load(data_dir: Path, report: Report) -> Dataset:
    """Downloads the two files, decodes and verifies them; they are not kept.

    Args:
      data_dir: folder for the files while they are needed.
      report: told the progress.

    Returns:
      The verified data set.

    Raises:
      DataError: the host cannot be reached or serves something else.
    """
    splits = {}
    for split in ("train", "test"):
        path = data_dir / f".cifar10-{split}.parquet"  # not a name that a user gives a file
        transfer.fetch(_url(split), path, limit=LIMIT, report=report)
        try:
            splits[split] = official_order(*decode(path))
        finally:
            path.unlink()
    return verify(Dataset(*splits["train"], *splits["test"]))


def decode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a parquet file of PNG images, columns ``img`` (bytes, path) and ``label``.

    Args:
      path: the file.

    Returns:
      Images, uint8 [N, 32, 32, 3], and labels, uint8 [N], in the order of the rows.

    Raises:
      DataError: the file is damaged or holds something else.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, columns=["img", "label"])
        pngs = table["img"].combine_chunks().field("bytes").to_pylist()
        labels = table["label"].to_numpy()
        if not pngs or not ((labels >= 0) & (labels < 10)).all():
            raise DataError(f"{path} must hold labels from 0 to 9, does not")
        return np.stack([decode_png(png or b"") for png in pngs]), labels.astype(np.uint8)
    except (
        pyarrow.ArrowException,
        AttributeError,
        KeyError,
        OSError,
        TypeError,
        ValueError,
    ) as error:
        raise DataError(f"{path} is damaged: {one_line(error)}") from error


def official_order(
    images: np.ndarray,
    labels: np.ndarray,
    md5: Mapping[str, str] = batches.MD5,
    records: int = batches.BATCH_RECORDS,
) -> tuple[np.ndarray, np.ndarray]:
    """Sorts whole batches into the official order.

    Args:
      images: uint8 [N, 32, 32, 3].
      labels: uint8 [N].
      md5: MD5 of each batch's records, in the official order.
      records: images in a batch.

    Returns:
      Images and labels, batches sorted; unchanged if any of them is not an official batch.
    """
    rank = {value: index for index, value in enumerate(md5.values())}
    blocks = [slice(start, start + records) for start in range(0, len(labels), records)]
    order = [rank.get(batches.md5(batches.encode(images[b], labels[b]))) for b in blocks]
    if None in order:
        return images, labels
    blocks = [blocks[index] for index in np.argsort(order)]  # pyright: ignore[reportArgumentType]
    return (
        np.concatenate([images[block] for block in blocks]),
        np.concatenate([labels[block] for block in blocks]),
    )


def _url(split: str) -> str:
    endpoint = os.environ.get("HF_ENDPOINT") or ENDPOINT
    return f"{endpoint.rstrip('/')}/{FILES.format(split=split)}"
