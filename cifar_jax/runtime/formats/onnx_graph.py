"""ONNX: the network as a graph of standard operators, built from its variables."""

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from cifar_jax import models
from cifar_jax.config import IMAGE_SHAPE
from cifar_jax.data import CLASS_NAMES
from cifar_jax.errors import ConfigError
from cifar_jax.models.layers import BatchNorm, blocks_of
from cifar_jax.runtime.formats.classifier import DESCRIPTIONS, Input
from cifar_jax.runtime.pretrained import Pretrained

OPSET, IR_VERSION = 17, 8  # of 2022: old enough for most runtimes
Leaves = Mapping[str, np.ndarray]  # variables by path, as params/stem/kernel


class _Graph:
    """Nodes and their constants, on activations [N, C, H, W]."""

    def __init__(self, leaves: Leaves):
        """Begin with no nodes."""
        from onnx import helper, numpy_helper

        self.leaves, self.nodes, self.constants = leaves, [], {}
        self._make_node, self._from_array = helper.make_node, numpy_helper.from_array

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self._make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, array: Any) -> str:
        """Add an array in float32."""
        array = np.ascontiguousarray(array, np.float32)
        self.constants[name] = self._from_array(array, name)
        return name

    def parameter(self, path: str, axes: tuple[int, ...] = (0,)) -> str:
        """Add one of the variables, transposed."""
        return self.constant(path, self.leaves[path].transpose(axes))

    def conv(self, x: str, name: str, stride: int = 1) -> str:
        """A convolution without bias; depthwise where its kernel is."""
        side, _, of_group, outputs = self.leaves[f"params/{name}/kernel"].shape
        kernel = self.parameter(f"params/{name}/kernel", (3, 2, 0, 1))  # HWIO -> OIHW
        group = outputs if name.rpartition("/")[2].startswith("depthwise") else 1
        assert group == 1 or of_group == 1
        pads, strides = [side // 2] * 4, [stride] * 2
        return self.node("Conv", x, kernel, group=group, pads=pads, strides=strides)

    def norm(self, x: str, name: str) -> str:
        """Batch normalisation by the running statistics."""
        parts = [self.parameter(f"params/{name}/{leaf}") for leaf in ("scale", "bias")]
        parts += [self.parameter(f"batch_stats/{name}/{leaf}") for leaf in ("mean", "var")]
        return self.node("BatchNormalization", x, *parts, epsilon=BatchNorm.epsilon)

    def dense(self, x: str, name: str) -> str:
        """A dense layer on each pixel: a 1x1 convolution with a bias."""
        kernel = self.leaves[f"params/{name}/kernel"].T[:, :, None, None]
        bias = self.parameter(f"params/{name}/bias")
        return self.node("Conv", x, self.constant(f"params/{name}/kernel", kernel), bias)


def _separable_block(graph: _Graph, x: str, name: str, stride: int) -> str:
    y = graph.conv(graph.conv(x, f"{name}/depthwise1", stride), f"{name}/pointwise1")
    y = graph.node("Relu", graph.norm(y, f"{name}/norm1"))
    y = graph.conv(graph.conv(y, f"{name}/depthwise2"), f"{name}/pointwise2")
    y = graph.norm(y, f"{name}/norm2")
    if f"params/{name}/shortcut/kernel" in graph.leaves:
        x = graph.norm(graph.conv(x, f"{name}/shortcut", stride), f"{name}/shortcut_norm")
    return graph.node("Relu", graph.node("Add", x, y))


def _preact_block(graph: _Graph, x: str, name: str, stride: int) -> str:
    y = graph.node("Relu", graph.norm(x, f"{name}/norm1"))
    y = graph.conv(graph.conv(y, f"{name}/depthwise1", stride), f"{name}/pointwise1")
    y = graph.node("Relu", graph.norm(y, f"{name}/norm2"))
    y = graph.conv(graph.conv(y, f"{name}/depthwise2"), f"{name}/pointwise2")
    y = graph.norm(y, f"{name}/norm3")
    gate = graph.dense(graph.node("GlobalAveragePool", y), f"{name}/squeeze")
    gate = graph.dense(graph.node("Relu", gate), f"{name}/excite")
    y = graph.node("Mul", y, graph.node("Sigmoid", gate))
    if f"params/{name}/shortcut/kernel" in graph.leaves:
        x = graph.conv(x, f"{name}/shortcut", stride)
    return graph.node("Add", x, y)


def _wide_block(graph: _Graph, x: str, name: str, stride: int) -> str:
    y = graph.node("Relu", graph.norm(x, f"{name}/norm1"))
    if f"params/{name}/shortcut/kernel" in graph.leaves:
        x = graph.conv(y, f"{name}/shortcut", stride)
    y = graph.conv(y, f"{name}/conv1", stride)
    y = graph.node("Relu", graph.norm(y, f"{name}/norm2"))
    return graph.node("Add", x, graph.conv(y, f"{name}/conv2"))


BLOCKS = {"separable": _separable_block, "preact": _preact_block, "wide": _wide_block}


def serialize(net: Pretrained, input: Input) -> bytes:
    """Build the graph and check it.

    Args:
      net: the network.
      input: what it takes, by the name "images"; "logits" is what it gives, float32 [N, 10].

    Returns:
      The content of a file.

    Raises:
      ConfigError: without the packages of the extra "onnx".
    """
    _require_packages()
    import onnx
    from onnx import TensorProto, helper

    model, config = net.model, net.config.augment
    leaves: dict[str, Any] = traverse_util.flatten_dict(net.variables, sep="/")
    graph = _Graph(leaves)
    x = "images"
    if input == "uint8":
        x = graph.node("Cast", x, to=TensorProto.FLOAT)
        x = graph.node("Div", x, graph.constant("full_scale", 255))
    x = graph.node("Sub", x, graph.constant("mean", config.mean))
    x = graph.node("Div", x, graph.constant("std", config.std))
    x = graph.node("Transpose", x, perm=[0, 3, 1, 2])
    x = graph.conv(x, "stem")
    separable = isinstance(model, models.SeparableResNet)
    if separable:
        x = graph.node("Relu", graph.norm(x, "stem_norm"))
    block = BLOCKS[net.config.model.architecture]
    for name, _, stride in blocks_of(model.stages, model.blocks, model.halvings):
        x = block(graph, x, name, stride)
    if not separable:
        x = graph.node("Relu", graph.norm(x, "norm"))
    x = graph.node("Flatten", graph.node("GlobalAveragePool", x))
    kernel, bias = (
        graph.parameter("params/head/kernel", (0, 1)),
        graph.parameter("params/head/bias"),
    )
    graph.node("Gemm", x, kernel, bias, output="logits")
    dtype = TensorProto.UINT8 if input == "uint8" else TensorProto.FLOAT
    made = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "cifar_jax",
            [helper.make_tensor_value_info("images", dtype, ["N", *IMAGE_SHAPE])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(CLASS_NAMES)])],
            initializer=list(graph.constants.values()),
        ),
        producer_name="cifar_jax",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    told = {"input": DESCRIPTIONS[input], "classes": json.dumps(CLASS_NAMES)}
    helper.set_model_props(made, told)
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()


def _require_packages() -> None:
    try:
        for name in ("onnx", "onnxruntime"):
            importlib.import_module(name)
    except ImportError as error:  # also of one that is there, and broken
        raise ConfigError(
            f"--format onnx needs the package {error.name}: pip install -e '.[onnx]'"
        ) from error


def load(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Read a file of :func:`serialize` with ONNX Runtime, as a function from images to logits."""
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(["logits"], {"images": images})[0])
