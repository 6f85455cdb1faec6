"""A generated data set that looks like CIFAR-10 to a program and can be learned in seconds.

Ten classes = five patterns x two scales. Each image has its own phase, small rotation, two
colours and noise, so that flips, shifts, crops and changes of colour leave the class as it is.
"""

import numpy as np

from cifar_jax.data.dataset import Dataset

PATTERNS = 5  # horizontal stripes, vertical stripes, checks, rings, diamonds
PERIODS = ((10.0, 12.0), (4.5, 5.5))  # pixels, lowest and highest, of the two scales
ROTATION = np.deg2rad(10.0)  # at most, either way
NOISE = 20.0  # standard deviation, in units of 1/255


def make_synthetic(train: int = 5_000, test: int = 1_000, seed: int = 0) -> Dataset:
    """Generates a learnable data set; the same arguments give the same arrays.

    Args:
      train: number of training images.
      test: number of test images; the training images do not depend on it.
      seed: of numpy's PCG64 generator.

    Returns:
      A data set of the given sizes, classes as even as possible, in random order.

    >>> make_synthetic(20, 10).train_images.shape
    (20, 32, 32, 3)
    """
    return Dataset(
        *_generate(np.random.Generator(np.random.PCG64([seed, 0])), train),
        *_generate(np.random.Generator(np.random.PCG64([seed, 1])), test),
    )


def _generate(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.permutation(np.arange(count) % (PATTERNS * len(PERIODS))).astype(np.uint8)
    lowest, highest = np.array(PERIODS)[labels // PATTERNS].T
    frequency = 2 * np.pi / rng.uniform(lowest, highest)
    angle = rng.uniform(-ROTATION, ROTATION, count)
    origin = rng.uniform(-8, 8, (2, count))
    waves = np.empty((count, 32, 32), np.float32)
    for pattern in range(PATTERNS):
        chosen = np.flatnonzero(labels % PATTERNS == pattern)
        waves[chosen] = _waves(pattern, frequency[chosen], angle[chosen], origin[:, chosen])
    # Two colours as far apart in luminance as the classes need, in any hue.
    middle = rng.uniform(80, 175, (count, 1, 1, 3)).astype(np.float32)
    contrast = rng.uniform(30, 80, (count, 1, 1, 3)).astype(np.float32)
    contrast *= rng.choice(np.array([-1, 1], np.float32), (count, 1, 1, 1))
    images = rng.standard_normal((count, 32, 32, 3), np.float32)
    images *= NOISE
    images += middle + contrast * waves[..., None]
    return np.clip(np.rint(images), 0, 255).astype(np.uint8), labels


def _waves(
    pattern: int, frequency: np.ndarray, angle: np.ndarray, origin: np.ndarray
) -> np.ndarray:
    """The pattern in [-1, 1], [N, 32, 32], for N frequencies (radians a pixel) and poses."""
    grid = np.arange(32, dtype=np.float32) - 15.5
    frequency, angle, x0, y0 = (
        value.astype(np.float32)[:, None, None] for value in (frequency, angle, *origin)
    )
    x, y = grid[None, None, :] - x0, grid[None, :, None] - y0
    x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    if pattern == 0:
        return np.sin(frequency * y)
    if pattern == 1:
        return np.sin(frequency * x)
    if pattern == 2:
        return np.sin(frequency * x) * np.sin(frequency * y)
    if pattern == 3:
        return np.sin(frequency * np.hypot(x, y))
    return np.sin(frequency * (np.abs(x) + np.abs(y)))
