"""The images of a run: trained on, chosen by, and scored once."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cifar_jax import data
from cifar_jax.config import Config

ALIGNMENT = 64  # bytes

ImageSet = tuple[np.ndarray, np.ndarray]  # images uint8 [N, H, W, C]; labels uint8 [N]


class Inputs(NamedTuple):
    """The three sets of a run, on the host; validation may be empty."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet

    def describe(self) -> str:
        """How many images there are, for people."""
        return (
            f"{len(self.train[0])} training, {len(self.validation[0])} validation and "
            f"{len(self.test[0])} test images"
        )


def load_dataset(
    config: Config, *, report: Callable[[str], None], anew: bool = False
) -> data.Dataset:
    """The data set of a run, before it is split; as :func:`load_inputs`.

    What ``data.source`` has to fetch is fetched once, and then from the cache, unless ``anew``.
    """
    options = config.data
    if options.source == "synthetic":
        count = config.train_images + options.validation_examples
        return data.make_synthetic(train=count, seed=options.split_seed)
    if options.source in data.REMOTE and not anew:
        with contextlib.suppress(data.DataError):
            return data.load_cifar10(options.data_dir, "cache", report=report)
    return data.load_cifar10(options.data_dir, options.source, report=report)


def load_inputs(config: Config, *, report: Callable[[str], None]) -> Inputs:
    """Load the data set and split it.

    Args:
      config: the section "data" is read.
      report: called with lines of progress.

    Returns:
      Training images without those of the validation set, which depends on ``split_seed`` alone.

    Raises:
      DataError: when the data set cannot be had.
    """
    options, dataset = config.data, load_dataset(config, report=report)
    images, labels = dataset.train_images, dataset.train_labels
    train, validation = data.train_validation_split(
        labels, options.validation_examples, options.split_seed
    )
    chosen = data.select_train_examples(labels[train], options.train_examples, options.split_seed)
    train = train[chosen]
    return Inputs(
        train=(_aligned_rows(images, train), labels[train]),
        validation=(images[validation], labels[validation]),
        test=(dataset.test_images, dataset.test_labels),
    )


def _aligned_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of an array, in memory that JAX on a CPU takes as it is instead of copying it."""
    shape = (len(rows), *array.shape[1:])
    size = int(np.prod(shape)) * array.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    aligned = memory[start : start + size].view(array.dtype).reshape(shape)
    return np.take(array, rows, axis=0, out=aligned)
