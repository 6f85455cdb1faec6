"""A trained network as one file for other programs; each is read back before it is in place."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cifar_jax import data
from cifar_jax.config import Config
from cifar_jax.errors import CifarJaxError, ConfigError
from cifar_jax.files import make_folder, replacing
from cifar_jax.runtime.formats import onnx_graph, stablehlo, torch_state
from cifar_jax.runtime.formats.classifier import Input, classifier, in_float32
from cifar_jax.runtime.kernels import network
from cifar_jax.runtime.pretrained import Pretrained

FromImages = Callable[[np.ndarray], np.ndarray]  # to logits
Classifier = Callable[[Any, np.ndarray], np.ndarray]  # variables and images, to logits

ENDINGS = {
    "stablehlo": (".stablehlo",),
    "onnx": (".onnx",),
    "torch": (".safetensors", ".pt", ".pth"),
}
BATCHES = (1, 13)  # images that a file's logits are compared on
TOLERANCE = 1e-4  # of the largest logit, or of 1 where all are smaller


class FormatError(CifarJaxError):
    """A file that does not give the network back, and so is not there; one line."""


class Written(NamedTuple):
    """What was written.

    Attributes:
      size: of the file [bytes].
      difference: the largest between logits of the file and of the network; 0 for "torch", whose
        arrays are the network's.
      largest: logit of the network, in absolute value; 0 for "torch".
    """

    size: int
    difference: float = 0.0
    largest: float = 0.0


def write(net: Pretrained, path: str | Path, kind: str, *, input: Input = "uint8") -> Written:
    """Write a network for another program, and read it back.

    Args:
      net: the network.
      path: to make or replace; its ending is one of ``ENDINGS[kind]``.
      kind: "stablehlo", "onnx", or "torch": a state dict with the original's names.
      input: images uint8 [N, 32, 32, 3], or "float": float32 in [0, 1]; N is free, normalisation
        is in the file. "torch" has weights alone, of a network that takes normalised images.

    Returns:
      The size, and how near the file's logits are to the network's, both in float32.

    Raises:
      ConfigError: for another ending, an architecture that the format has not, or without the
        packages that it needs.
      FormatError: when logits differ by more than ``TOLERANCE``; ``path`` stays as it was.
      WriteError: when it cannot be written.
    """
    path = Path(path)
    if path.suffix not in ENDINGS[kind]:
        endings = " or ".join(ENDINGS[kind])
        raise ConfigError(f"--output must end in {endings} for --format {kind}, not {path.name}")
    if kind == "stablehlo":
        content, load = stablehlo.serialize(net, input), stablehlo.load
    elif kind == "onnx":
        content, load = onnx_graph.serialize(net, input), onnx_graph.load
    else:
        content, load = torch_state.serialize(net, path.suffix), None
    make_folder(path.parent)
    with replacing(path, len(content)) as temporary:
        temporary.write_bytes(content)
        if load is None:
            _require_same(net, temporary, path)
            return Written(len(content))
        ours = functools.partial(_classifier(net.config), net.variables)
        difference, largest = _compare(load(temporary), ours, input)
        if not difference <= TOLERANCE * max(1, largest):  # a NaN is not
            raise FormatError(
                f"{path}: not written: logits read back from it must be the network's within "
                f"{TOLERANCE * max(1, largest):.3g}, not {difference:.3g}"
            )
    return Written(len(content), difference, largest)


def _classifier(config: Config) -> Classifier:
    """The network as it evaluates on this machine, in float32: variables, images -> logits."""
    config = in_float32(config)
    apply_fn = network(config).apply
    classify = jax.jit(lambda v, images: classifier(apply_fn, v, config.augment)(images))
    return lambda variables, images: np.asarray(classify(variables, images))


def _require_same(net: Pretrained, temporary: Path, path: Path) -> None:
    """Read a state dict back; raises FormatError for other weights, and for a NaN."""
    same = jax.tree.map(np.array_equal, net.variables, torch_state.load(temporary).variables)
    if not all(jax.tree.leaves(same)):
        raise FormatError(f"{path}: not written: weights read back from it must be equal")


def _compare(theirs: FromImages, ours: FromImages, input: Input) -> tuple[float, float]:
    """The largest difference of logits on generated images, and the largest logit of ours."""
    images = data.make_synthetic(train=10, test=max(BATCHES)).test_images
    if input == "float":
        images = images.astype(np.float32) / 255
    expected = [ours(images[:size]) for size in BATCHES]
    found = [theirs(images[:size]) for size in BATCHES]
    gaps = [np.abs(a - b).max() for a, b in zip(expected, found, strict=True)]
    return float(np.max(gaps)), max(float(np.abs(logits).max()) for logits in expected)
