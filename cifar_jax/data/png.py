"""Decodes PNG images of a size that is known beforehand."""

import io

import numpy as np

from cifar_jax.data.dataset import DataError


def decode_png(data: bytes, width: int = 32, height: int = 32) -> np.ndarray:
    """Decodes one RGB image.

    Args:
      data: a PNG file.
      width: pixels in a row.
      height: rows.

    Returns:
      Pixels, uint8 [height, width, 3].

    Raises:
      DataError: it is not a PNG, or of another size or kind; nothing large is decoded to find out.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.size == (width, height) and image.mode == "RGB":
                return np.array(image)
            reason = f"it is {image.size[0]}x{image.size[1]} {image.mode}"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = f"it cannot be decoded ({type(error).__name__})"
    raise DataError(f"an image must be PNG, {width}x{height} RGB; {reason}")
