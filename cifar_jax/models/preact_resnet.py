"""A wider separable residual network with gates, for more computation from as few parameters."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cifar_jax.checks import require_floating
from cifar_jax.models.layers import (
    DEFAULT_HALVINGS,
    Kernel,
    batch_norm,
    blocks_of,
    choose_convolutions,
    dense_init,
)
from cifar_jax.models.plain import Convolutions, Pending, activate, affine, channel_sums


class PreactBlock(nn.Module):
    """BN - ReLU - dw3x3(stride) - pw1x1 - BN - ReLU - dw3x3 - pw1x1 - BN - gate, plus the shortcut.

    The gate weighs each channel by a sigmoid of the means of all (squeeze and excitation). The
    shortcut is pw1x1(stride) where the shape changes, and the identity elsewhere.

    References:
      Han et al., Deep pyramidal residual networks, https://arxiv.org/abs/1610.02915 (the last BN)
      He et al., Identity mappings in deep residual networks, https://arxiv.org/abs/1603.05027
      Hu et al., Squeeze-and-excitation networks, https://arxiv.org/abs/1709.01507
    """

    features: int
    convolutions: Convolutions
    stride: int = 1
    reduction: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Map [..., C, H, W, images] to [..., features, H/stride, W/stride, images]."""
        inputs, features, stride = x.shape[-4], self.features, self.stride
        convolutions, kernel = self.convolutions, partial(Kernel, dtype=self.dtype)
        norm = partial(batch_norm, convolutions, train)
        y, sums, _ = convolutions.separable(
            Pending(x, *norm("norm1", x, channel_sums(x))),
            kernel((3, 3, 1, inputs), name="depthwise1")(),
            kernel((1, 1, inputs, features), name="pointwise1")(),
            stride,
        )
        y, sums, _ = convolutions.separable(
            Pending(y, *norm("norm2", y, sums)),
            kernel((3, 3, 1, features), name="depthwise2")(),
            kernel((1, 1, features, features), name="pointwise2")(),
            1,
        )
        y = affine(y, *norm("norm3", y, sums)).astype(self.dtype)
        dense = partial(nn.Dense, kernel_init=dense_init)
        gate = nn.relu(
            dense(max(1, features // self.reduction), name="squeeze")(convolutions.pool(y))
        )
        gate = nn.sigmoid(dense(features, name="excite")(gate)).astype(self.dtype)
        y = y * convolutions.arrange(gate[:, None, None, :])
        if stride != 1 or inputs != features:
            weights = kernel((1, 1, inputs, features), name="shortcut")()
            x, _ = convolutions.pointwise(x, weights, stride)
        return x + y


class PreactResNet(nn.Module):
    """A pre-activation residual network of gated, depthwise-separable blocks.

    A 3x3 stem; stages of blocks, from the second with stride 2 (see ``halvings``); BN and ReLU;
    the mean over pixels, dropout and a dense layer. The attributes are those of
    :class:`cifar_jax.models.SeparableResNet`, and ``reduction``: the hidden layer of a block's gate
    has features // reduction units.
    """

    num_classes: int = 10
    stem: int = 64
    stages: tuple[int, ...] = (64, 88, 112)
    blocks: int = 3
    reduction: int = 8
    dropout: float = 0.0
    dtype: Any = jnp.float32
    lanes: int = 0
    halvings: int = DEFAULT_HALVINGS

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Classify a batch.

        Args:
          images: normalised, [B, H, W, C].
          train: use the batch's statistics and dropout (needs an rng "dropout" and a mutable
            collection "batch_stats").

        Returns:
          Logits [B, num_classes], float32.

        Raises:
          TypeError: for images that are not floating: bytes are not normalised.
        """
        require_floating(images=images)
        convolutions = choose_convolutions(images.shape[0], self.lanes, self.dtype)
        x = convolutions.arrange(images.astype(self.dtype))
        kernel = Kernel((3, 3, images.shape[-1], self.stem), self.dtype, name="stem")()
        x, _ = convolutions.dense(x, kernel)
        for name, features, stride in blocks_of(self.stages, self.blocks, self.halvings):
            layer = PreactBlock(
                features, convolutions, stride, self.reduction, self.dtype, name=name
            )
            x = layer(x, train=train)
        pending = Pending(x, *batch_norm(convolutions, train, "norm", x, channel_sums(x)))
        x = convolutions.pool(activate(pending, self.dtype))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=dense_init, name="head")(x)
