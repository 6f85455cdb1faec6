"""The network's size, receptive field and cost, each against the network itself."""

from functools import partial
from typing import Any, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from cifar_jax.models import (
    ARCHITECTURES,
    PreactResNet,
    SeparableResNet,
    WideResNet,
    count_params,
    multiply_adds,
    plain,
    receptive_field,
)
from cifar_jax.models.analysis import layers
from cifar_jax.runtime.formats.onnx_graph import BLOCKS
from cifar_jax.sections import ModelConfig

DEFAULT = SeparableResNet()
SMALL = SeparableResNet(num_classes=3, stem=4, stages=(8, 16), blocks=1)
PREACT = PreactResNet(num_classes=3, stem=8, stages=(8, 16), blocks=2)
HIGH = PreactResNet(num_classes=3, stem=4, stages=(4, 6, 8), blocks=1, halvings=1)
WIDE = WideResNet(num_classes=3, stem=8, stages=(8, 16), blocks=2)
KEY = jax.random.key(0)


def shapes_of(model, side=32):
    return jax.eval_shape(model.init, KEY, jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32))


def flat(tree) -> dict[str, Any]:
    return flatten_dict(tree, sep="/")


def test_150_690_parameters():
    assert count_params(shapes_of(DEFAULT)["params"]) == 150_690


@pytest.mark.parametrize(
    ("part", "size"),
    [
        ("stem", 580),
        ("stage1", 2_480),
        ("stage2", 8_060),
        ("stage3", 28_920),
        ("stage4", 109_040),
        ("head", 1_610),
    ],
)
def test_parameters_by_part(part, size):
    params = shapes_of(DEFAULT)["params"]
    layers = {name: layer for name, layer in params.items() if name.startswith(part)}
    assert count_params(layers) == size


def test_count_params_counts_arrays():
    assert count_params({"a": np.zeros((2, 3)), "b": [jnp.zeros(4), jnp.zeros(())]}) == 11


def averaging_variables(model):
    """Kernels that average and statistics that change nothing: every ReLU stays open."""

    def fill(path, leaf):
        if path[-1].key == "kernel":
            return jnp.full(leaf.shape, 1 / np.prod(leaf.shape[:-1]), leaf.dtype)
        return jnp.full(leaf.shape, 1.0 if path[-1].key in ("scale", "var") else 0.0, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes_of(model))


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (SeparableResNet(stem=2, stages=(2, 2, 2, 2)), 109),
        (SeparableResNet(stem=2, stages=(3, 2, 2), blocks=1), 3 + 4 + 2 + 4 + 4 + 8),
        (WideResNet(stem=2, stages=(2, 3, 2)), 53),
        (SeparableResNet(stem=2, stages=(3, 2, 2), blocks=1, halvings=1), 3 + 4 + 2 + 4 + 4 + 4),
        (WideResNet(stem=2, stages=(2, 2), blocks=1, halvings=0), 3 + 4 + 4),
    ],
)
def test_receptive_field_is_what_gradients_reach(model, field):
    """Of the central pixel before the mean, in evaluation, on an image larger than the field."""
    variables = averaging_variables(model)
    last = f"stage{len(model.stages)}_block{model.blocks}"

    def central(image):
        _, state = model.apply(
            variables,
            image,
            mutable="intermediates",
            capture_intermediates=lambda m, _: m.name == last,
        )
        (y,) = state["intermediates"][last]["__call__"]
        if isinstance(model, SeparableResNet):
            y = jnp.transpose(plain.activate(y, jnp.float32), (3, 1, 2, 0))
        return y[0, y.shape[1] // 2, y.shape[2] // 2, 0]

    gradient = np.asarray(jax.jit(jax.grad(central))(jnp.ones((1, 128, 128, 3))))[0, :, :, 0]
    rows, columns = (np.flatnonzero(gradient.any(axis)) for axis in (1, 0))
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == field
    assert 0 < rows[0] < rows[-1] < 127  # the edges did not cut it
    assert receptive_field(model) == field


def test_every_architecture_is_known():
    names = get_args(get_type_hints(ModelConfig)["architecture"])
    assert {*names} == {*ARCHITECTURES} == {*BLOCKS}


def test_the_default_field():
    assert receptive_field(DEFAULT) == 109


@pytest.mark.parametrize("side", [32, 15])
@pytest.mark.parametrize(
    "model", [DEFAULT, SMALL, SeparableResNet(stages=(12, 9), blocks=3), PREACT, HIGH]
)
def test_multiply_adds_of_the_layers_themselves(model, side, monkeypatch):
    """Each number of a kernel meets each pixel of its layer's output once."""
    variables, counts = shapes_of(model), []

    def counted(convolution):
        def convolve(x, *weights_and_stride, **options):
            z, *more = convolution(x, *weights_and_stride, **options)
            kernels = [w for w in weights_and_stride if np.ndim(w) == 4]
            counts.append(sum(kernel.size for kernel in kernels) * z.size // len(z))
            return z, *more

        return convolve

    one = plain.convolutions(1)
    spies = {name: counted(getattr(one, name)) for name in ("dense", "separable", "pointwise")}
    monkeypatch.setattr(plain, "convolutions", lambda images: one._replace(**spies))
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    jax.eval_shape(partial(model.apply, train=False), variables, image)
    dense = flat(variables["params"])
    counts += [
        leaf.size for name, leaf in dense.items() if name.endswith("kernel") and leaf.ndim == 2
    ]
    assert multiply_adds(model, side=side) == sum(counts)


@pytest.mark.parametrize("network", [SeparableResNet, PreactResNet, WideResNet])
@pytest.mark.parametrize("halvings", range(4))
def test_the_earliest_stages_are_halved(network, halvings):
    found = layers(network(stages=(4, 4, 4), blocks=1, halvings=halvings))
    sides = {layer.name.split("_")[0]: layer.side for layer in found if "conv" in layer.name}
    sides |= {layer.name.split("_")[0]: layer.side for layer in found if "wise2" in layer.name}
    first = {0: (32, 32, 32), 1: (32, 16, 16), 2: (32, 16, 8), 3: (32, 16, 8)}[halvings]
    assert sides == {f"stage{n}": side for n, side in enumerate(first, 1)}


@pytest.mark.parametrize(("halvings", "expected"), [(None, 5), (0, 0), (4, 4), (6, 6), (9, 7)])
def test_how_many_of_eight_stages_are_halved(halvings, expected):
    options = {} if halvings is None else {"halvings": halvings}
    found = layers(SeparableResNet(stages=(4,) * 8, blocks=1, **options))
    strides = [layer.stride for layer in found if "depthwise1" in layer.name]
    assert strides == [1] + [2] * expected + [1] * (7 - expected)


def test_the_default_multiply_adds():
    assert multiply_adds(DEFAULT) == 8_409_920


@pytest.mark.parametrize("model", [SMALL, PREACT, WIDE])
def test_convolutions_are_those_of_the_parameters(model):
    params = flat(shapes_of(model)["params"])
    kernels = {k.removesuffix("/kernel"): v.size for k, v in params.items() if k.endswith("kernel")}
    found = layers(model)
    if model is SMALL:
        assert [layer.side for layer in found] == [32, 32, 32, 32, 32, 32, 16, 16, 16, 16, 16, 1]
    sizes = {c.name: c.kernel**2 * c.inputs // c.groups * c.outputs for c in found}
    assert sizes == kernels


def test_tabulate():
    table = DEFAULT.tabulate(KEY, jnp.zeros((1, 32, 32, 3)), console_kwargs={"width": 200})
    assert "150,690" in table
    assert "stage4_block2" in table
