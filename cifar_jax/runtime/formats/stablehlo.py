"""StableHLO by jax.export: a program with its weights, for jax without this package.

jax reads such files for six months after they were made, and an older jax may not read those of a
newer one: weights as safetensors are what lasts.
https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from jax import export

from cifar_jax import models
from cifar_jax.config import IMAGE_SHAPE
from cifar_jax.runtime.formats.classifier import Input, classifier, in_float32
from cifar_jax.runtime.pretrained import Pretrained

PLATFORMS = ("cpu", "cuda", "tpu")


def serialize(net: Pretrained, input: Input) -> bytes:
    """Lower the network, with the convolutions in plain JAX, for any batch size and platform.

    Args:
      net: the network.
      input: what it takes.

    Returns:
      What ``jax.export.deserialize`` reads; its ``call`` gives logits float32 [N, 10].
    """
    model = models.from_config(in_float32(net.config).model)
    (batch,) = export.symbolic_shape("N")
    dtype = np.uint8 if input == "uint8" else np.float32
    images = jax.ShapeDtypeStruct((batch, *IMAGE_SHAPE), dtype)
    classify = jax.jit(classifier(model.apply, net.variables, net.config.augment))
    with _no_source_locations():
        return bytes(export.export(classify, platforms=PLATFORMS)(images).serialize())


@contextlib.contextmanager
def _no_source_locations() -> Iterator[None]:
    """Keep the paths of source files out of a program: they name folders of this machine."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def load(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Read a file of :func:`serialize`, as a function from images to logits."""
    call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    return lambda images: np.asarray(call(images))
