"""The depthwise-separable residual network."""

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
from cifar_jax.models.plain import Convolutions, Pending, activate, affine


class SeparableBlock(nn.Module):
    """Two depthwise-separable convolutions and a shortcut.

    dw3x3(stride) - pw1x1 - BN - ReLU - dw3x3 - pw1x1 - BN, plus the shortcut, then ReLU. The
    shortcut is pw1x1(stride) - BN where the shape changes, and the identity elsewhere.
    """

    features: int
    convolutions: Convolutions
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, pending: Pending, *, train: bool) -> Pending:
        """Map activations [..., C, H, W, images] to [..., features, H/stride, W/stride, images].

        The sum and the last ReLU are left to what reads the block.
        """
        channels, features, stride = len(pending.scale), self.features, self.stride
        kernel = partial(Kernel, dtype=self.dtype)
        separable = self.convolutions.separable
        norm = partial(batch_norm, self.convolutions, train)
        y, sums, x = separable(
            pending,
            kernel((3, 3, 1, channels), name="depthwise1")(),
            kernel((1, 1, channels, features), name="pointwise1")(),
            stride,
            keep_x=True,
        )
        y, sums, _ = separable(
            Pending(y, *norm("norm1", y, sums)),
            kernel((3, 3, 1, features), name="depthwise2")(),
            kernel((1, 1, features, features), name="pointwise2")(),
            1,
        )
        scale, shift = norm("norm2", y, sums)
        if stride != 1 or channels != features:
            weights = kernel((1, 1, channels, features), name="shortcut")()
            x, sums = self.convolutions.pointwise(x, weights, stride)
            x = affine(x, *norm("shortcut_norm", x, sums))
        return Pending(y, scale, shift, x)


class SeparableResNet(nn.Module):
    """A residual network of depthwise-separable blocks; 150,690 parameters by default.

    A 3x3 stem with BN and ReLU; stages of blocks, from the second with stride 2 (see
    ``halvings``); the mean over pixels, dropout and a dense layer.

    Attributes:
      num_classes: classes.
      stem: channels of the stem.
      stages: channels of each stage.
      blocks: blocks in each stage.
      dropout: probability with which an input of the dense layer is dropped in training.
      dtype: of the computation; parameters, batch statistics and logits stay float32.
      lanes: ``cifar_jax.runtime.kernels.load().lanes`` for convolutions in C++, on one CPU device;
        0 for plain ones, which other dtypes than float32 take in any case.
      halvings: at most so many of the stages after the first begin with stride 2, the earliest.

    References:
      He et al., Deep residual learning, https://arxiv.org/abs/1512.03385
      Howard et al., MobileNets, https://arxiv.org/abs/1704.04861 (depthwise-separable)
    """

    num_classes: int = 10
    stem: int = 20
    stages: tuple[int, ...] = (20, 40, 80, 160)
    blocks: int = 2
    dropout: float = 0.2
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
        x, sums = convolutions.dense(x, kernel)
        pending = Pending(x, *batch_norm(convolutions, train, "stem_norm", x, sums))
        for name, features, stride in blocks_of(self.stages, self.blocks, self.halvings):
            layer = SeparableBlock(features, convolutions, stride, self.dtype, name=name)
            pending = layer(pending, train=train)
        x = convolutions.pool(activate(pending, self.dtype))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=dense_init, name="head")(x)
