"""The classes of image files, in batches."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cifar_jax import tta
from cifar_jax.data.image import ImageError, read_image
from cifar_jax.runtime.pretrained import Pretrained


class Prediction(NamedTuple):
    """What is in an image file.

    Attributes:
      path: of the file.
      probabilities: float32 [K]; None where it cannot be read.
      error: why not, in one line that names the file.
    """

    path: Path
    probabilities: np.ndarray | None
    error: str = ""


def predict(
    net: Pretrained, paths: Sequence[Path], *, mode: tta.Mode = "none"
) -> Iterator[Prediction]:
    """Classify image files, ``eval.batch_size`` at a time.

    Args:
      net: of :func:`cifar_jax.runtime.pretrained.load`.
      paths: of files that :func:`cifar_jax.data.image.read_image` reads.
      mode: of test-time augmentation.

    Yields:
      A prediction for each path, in their order.
    """
    size = min(net.config.eval.batch_size, len(paths)) or 1
    for start in range(0, len(paths), size):
        batch = [_read(path) for path in paths[start : start + size]]
        images = [image for image in batch if not isinstance(image, str)]
        images += images[-1:] * (size - len(images))  # one program for all batches
        rows = iter(net.predict(np.stack(images), mode=mode) if images else ())
        for path, image in zip(paths[start:], batch, strict=False):
            if isinstance(image, str):
                yield Prediction(path, None, image)
            else:
                yield Prediction(path, next(rows))


def _read(path: Path) -> np.ndarray | str:
    try:
        return read_image(path)
    except ImageError as error:
        return str(error)
