"""A wide residual network of dense convolutions: a teacher, which a GPU computes fast."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cifar_jax.checks import require_floating
from cifar_jax.models.layers import DEFAULT_HALVINGS, BatchNorm, blocks_of, conv_init, dense_init


class WideBlock(nn.Module):
    """BN - ReLU - conv3x3(stride) - BN - ReLU - conv3x3, plus the shortcut.

    The shortcut is conv1x1(stride) of the first ReLU where the shape changes, and the identity
    elsewhere.
    """

    features: int
    stride: int
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [B, H, W, C] to [B, H/stride, W/stride, features]."""
        strides = (self.stride, self.stride)
        y = nn.relu(self.norm(name="norm1")(x))
        if self.stride != 1 or x.shape[-1] != self.features:
            x = self.conv(self.features, (1, 1), strides, padding=0, name="shortcut")(y)
        y = self.conv(self.features, (3, 3), strides, padding=1, name="conv1")(y)
        y = nn.relu(self.norm(name="norm2")(y))
        return x + self.conv(self.features, (3, 3), padding=1, name="conv2")(y)


class WideResNet(nn.Module):
    """A wide residual network; WRN-16-4 by default, of 2,748,890 parameters.

    A 3x3 stem; stages of blocks, from the second with stride 2 (see ``halvings``); BN and ReLU;
    the mean over pixels, dropout and a dense layer. The attributes are those of
    :class:`cifar_jax.models.SeparableResNet`; ``lanes`` is not read, as it has no convolutions in
    C++. Under strict promotion of dtypes it computes in float32 alone: Flax's BatchNorm mixes them.

    References:
      Zagoruyko and Komodakis, Wide residual networks, https://arxiv.org/abs/1605.07146
    """

    num_classes: int = 10
    stem: int = 16
    stages: tuple[int, ...] = (64, 128, 256)
    blocks: int = 2
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
        conv = partial(nn.Conv, use_bias=False, kernel_init=conv_init, dtype=self.dtype)
        norm = partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=BatchNorm.momentum,
            epsilon=BatchNorm.epsilon,
            dtype=self.dtype,
        )
        x = conv(self.stem, (3, 3), padding=1, name="stem")(images)
        for name, features, stride in blocks_of(self.stages, self.blocks, self.halvings):
            x = WideBlock(features, stride, conv, norm, name=name)(x)
        x = nn.relu(norm(name="norm")(x))
        x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=dense_init, name="head")(x)
