"""Size, receptive field and cost of a network, counted from its layers."""

from typing import Any, NamedTuple

import jax

from cifar_jax.models.layers import blocks_of
from cifar_jax.models.preact_resnet import PreactResNet
from cifar_jax.models.separable_resnet import SeparableResNet
from cifar_jax.models.wide_resnet import WideResNet

Network = SeparableResNet | PreactResNet | WideResNet


class Layer(NamedTuple):
    """A convolution, or a dense layer (kernel 1, side 1)."""

    name: str
    kernel: int  # side of the kernel [pixels]
    stride: int  # of its output's pixels [pixels of its input]
    inputs: int  # channels
    outputs: int  # channels
    groups: int  # inputs, for a depthwise convolution
    side: int  # of its output [pixels]

    @property
    def multiply_adds(self) -> int:
        """For one image."""
        return self.kernel**2 * self.inputs // self.groups * self.outputs * self.side**2


def layers(model: Network, *, side: int = 32) -> list[Layer]:
    """List the convolutions and dense layers in the order in which an image meets them.

    Args:
      model: the network.
      side: of the square input image, which has three channels [pixels].

    Returns:
      One entry a layer; shortcuts come after the block that they bridge.
    """
    found = [Layer("stem", 3, 1, 3, model.stem, 1, side)]
    inputs = model.stem
    for name, outputs, stride in blocks_of(model.stages, model.blocks, model.halvings):
        side = (side - 1) // stride + 1
        if isinstance(model, WideResNet):
            found += [
                Layer(f"{name}/conv1", 3, stride, inputs, outputs, 1, side),
                Layer(f"{name}/conv2", 3, 1, outputs, outputs, 1, side),
            ]
        else:
            found += [
                Layer(f"{name}/depthwise1", 3, stride, inputs, inputs, inputs, side),
                Layer(f"{name}/pointwise1", 1, 1, inputs, outputs, 1, side),
                Layer(f"{name}/depthwise2", 3, 1, outputs, outputs, outputs, side),
                Layer(f"{name}/pointwise2", 1, 1, outputs, outputs, 1, side),
            ]
        if isinstance(model, PreactResNet):
            squeezed = max(1, outputs // model.reduction)
            found.append(Layer(f"{name}/squeeze", 1, 1, outputs, squeezed, 1, 1))
            found.append(Layer(f"{name}/excite", 1, 1, squeezed, outputs, 1, 1))
        if stride != 1 or inputs != outputs:
            found.append(Layer(f"{name}/shortcut", 1, stride, inputs, outputs, 1, side))
        inputs = outputs
    return [*found, Layer("head", 1, 1, inputs, model.num_classes, 1, 1)]


def count_params(params: Any) -> int:
    """Count the trainable numbers of a pytree of arrays (or of their shapes)."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def receptive_field(model: Network) -> int:
    """Side of the square of input pixels that one pixel before the mean can see [pixels].

    It is that of the convolutions: the gates of a ``PreactResNet`` see the whole image.

    Each layer adds (kernel - 1) x the product of the strides before it; the layer's own stride
    counts from the next layer on. (The original project counted it one layer late: 67 for what
    is 109.) See https://distill.pub/2019/computing-receptive-fields.

    >>> receptive_field(SeparableResNet())
    109
    """
    field, jump = 1, 1
    for layer in layers(model):
        if not layer.name.endswith("shortcut"):
            field += (layer.kernel - 1) * jump
            jump *= layer.stride
    return field


def multiply_adds(model: Network, *, side: int = 32) -> int:
    """Multiply-adds of convolutions and dense layers for one image, ``side`` x ``side`` pixels."""
    return sum(layer.multiply_adds for layer in layers(model, side=side))
