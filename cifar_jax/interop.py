"""Weights to and from the original's PyTorch names and layouts; torch itself is never needed."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from cifar_jax.models import SeparableResNet
from cifar_jax.models.layers import DEFAULT_HALVINGS

_LAYERS = {
    "stem": "conv1",
    "stem_norm": "bn1",
    "depthwise1": "conv1.depthwise",
    "pointwise1": "conv1.pointwise",
    "norm1": "bn1",
    "depthwise2": "conv2.depthwise",
    "pointwise2": "conv2.pointwise",
    "norm2": "bn2",
    "shortcut": "shortcut.0",
    "shortcut_norm": "shortcut.1",
    "head": "fc",
}
_ARRAYS = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_FROM_TORCH = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}  # OIHW -> HWIO, [out, in] -> [in, out]
_TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
_COUNTER = "num_batches_tracked"  # of PyTorch's batch normalisation


def from_torch_state_dict(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a PyTorch state dict of the original network into variables.

    Stages, blocks and channels are read from the names and shapes, so any ``SeparableResNet`` can
    be read whose ``halvings`` are at least its stages less one, as PyTorch's network halves the
    resolution in each stage but the first. Batch counters (``num_batches_tracked``) are ignored.

    Args:
      mapping: PyTorch's names to arrays, or to anything else that ``np.asarray`` takes (tensors on
        the CPU, without a gradient).

    Returns:
      ``{"params": ..., "batch_stats": ...}`` as from ``SeparableResNet.init``, float32, copied.

    Raises:
      ValueError: a name is missing or unexpected, or a shape is wrong.
    """
    arrays = {name: np.asarray(value) for name, value in mapping.items()}
    paths = _checked_paths(arrays)
    leaves = {path: _transpose(arrays[name], _FROM_TORCH) for name, path in paths.items()}
    return unflatten_dict({path: jnp.array(leaf, jnp.float32) for path, leaf in leaves.items()})


def to_torch_state_dict(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Turn variables into a state dict that ``load_state_dict(strict=True)`` accepts.

    The inverse of ``from_torch_state_dict``, bit for bit; batch counters are 0.

    In PyTorch::

        model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})

    Args:
      variables: ``{"params": ..., "batch_stats": ...}`` of a ``SeparableResNet`` whose ``halvings``
        are at least its stages less one, which the arrays do not tell.

    Returns:
      PyTorch's names to arrays: float32 copies, and int64 for the batch counters.

    Raises:
      ValueError: a layer is missing or unexpected, or a shape is wrong.
    """
    leaves = _flat(variables)
    arrays = {}
    for path, leaf in leaves.items():
        name = _torch_name(path)
        leaf = np.asarray(leaf, np.float32)
        arrays[name] = np.array(_transpose(leaf, _TO_TORCH), order="C")
        if name.endswith("running_var"):
            arrays[_counter_of(name)] = np.zeros((), np.int64)
    for path in sorted(leaves.keys() - _checked_paths(arrays).values()):
        raise _unknown(path)
    return arrays


def _flat(variables: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    return flatten_dict(variables)  # with a type that says what its keys are


def _torch_name(path: tuple[str, ...]) -> str:
    """Turn ("params", "stage1_block1", "norm2", "scale") into layer1.0.bn2.weight."""
    *layers, array = path[1:] or path
    block = re.fullmatch(r"stage(\d+)_block(\d+)", layers[0]) if len(layers) == 2 else None
    known = bool(layers) and layers[-1] in _LAYERS and array in _ARRAYS
    if not known or (len(layers) > 1 and not block):
        raise _unknown(path)
    prefix = f"layer{block[1]}.{int(block[2]) - 1}." if block else ""
    return f"{prefix}{_LAYERS[layers[-1]]}.{_ARRAYS[array]}"


def _unknown(path: tuple[str, ...]) -> ValueError:
    return ValueError(f"variables: must be those of a SeparableResNet, got {'/'.join(path)}")


def _counter_of(name: str) -> str:
    return f"{name.rpartition('.')[0]}.{_COUNTER}"


def _transpose(array: np.ndarray, axes: dict[int, tuple[int, ...]]) -> np.ndarray:
    return array.transpose(axes.get(array.ndim))


def _checked_paths(arrays: dict[str, np.ndarray]) -> dict[str, tuple[str, ...]]:
    """Map the names of a state dict to paths of variables, once they make up a whole network."""
    image = jax.ShapeDtypeStruct((1, 1, 1, _size(arrays, "conv1.weight", 1, ndim=4)), jnp.float32)
    model = network_of(arrays)
    if (blocks := len(model.stages) * model.blocks) > len(arrays):  # would take hours to trace
        raise ValueError(f"{blocks} blocks must have as many arrays or more, got {len(arrays)}")
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    leaves = {_torch_name(path): (path, leaf) for path, leaf in _flat(variables).items()}
    shapes = {name: _torch_shape(leaf.shape) for name, (_, leaf) in leaves.items()}
    for name, shape in shapes.items():
        if name not in arrays:
            raise ValueError(f"{name}: must be an array of shape {shape}, got no such name")
        if arrays[name].shape != shape:
            raise ValueError(f"{name}: must have shape {shape}, got {arrays[name].shape}")
    counters = {_counter_of(name) for name in shapes if name.endswith("running_var")}
    for name in sorted(arrays.keys() - shapes.keys() - counters):
        shape = arrays[name].shape
        raise ValueError(f"{name}: must be a name of a SeparableResNet, got an array of {shape}")
    return {name: path for name, (path, _) in leaves.items()}


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in _TO_TORCH[len(shape)])


def network_of(arrays: Mapping[str, np.ndarray]) -> SeparableResNet:
    """The network with as many stages, blocks and channels as a state dict tells.

    Args:
      arrays: PyTorch's names to arrays.

    Raises:
      ValueError: a name that tells them is missing, or its array has another number of axes.
    """
    blocks = {
        match.groups() for name in arrays if (match := re.match(r"layer(\d+)\.(\d+)\.", name))
    }
    stages = range(1, 1 + max(1, len({stage for stage, _ in blocks})))
    return SeparableResNet(
        num_classes=_size(arrays, "fc.weight", 0, ndim=2),
        stem=_size(arrays, "conv1.weight", 0, ndim=4),
        stages=tuple(
            _size(arrays, f"layer{i}.0.conv1.pointwise.weight", 0, ndim=4) for i in stages
        ),
        blocks=max(1, len({block for _, block in blocks})),
        halvings=max(DEFAULT_HALVINGS, len(stages) - 1),
    )


def _size(arrays: Mapping[str, np.ndarray], name: str, axis: int, *, ndim: int) -> int:
    if name not in arrays:
        raise ValueError(f"{name}: must be an array with {ndim} axes, got no such name")
    shape = arrays[name].shape
    if len(shape) != ndim or 0 in shape:
        raise ValueError(f"{name}: must have {ndim} axes, none of them empty, got shape {shape}")
    return shape[axis]
