"""What the networks share: weights, batch normalisation, and which block has which stride."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cifar_jax.models import native, plain
from cifar_jax.models.plain import Convolutions

# He et al., Delving deep into rectifiers, https://arxiv.org/abs/1502.01852
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # Kaiming-normal, fan_out
dense_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")  # the same, fan_in


def choose_convolutions(images: int, lanes: int, dtype: Any) -> Convolutions:
    """The convolutions of a batch: in C++ where there are lanes and it computes in float32."""
    if lanes and jnp.dtype(dtype) == jnp.float32:
        return native.convolutions(images, lanes)
    return plain.convolutions(images)


DEFAULT_HALVINGS = 5  # as often as an image of 32 pixels can be halved


def blocks_of(stages: Sequence[int], blocks: int, halvings: int) -> Iterator[tuple[str, int, int]]:
    """Name, channels and stride of each block.

    >>> list(blocks_of((8, 16, 24), blocks=1, halvings=1))
    [('stage1_block1', 8, 1), ('stage2_block1', 16, 2), ('stage3_block1', 24, 1)]

    Args:
      stages: channels of each stage.
      blocks: in each stage.
      halvings: at most so many of the stages after the first begin with stride 2, the earliest.
    """
    for stage, features in enumerate(stages, 1):
        for block in range(1, blocks + 1):
            halves = block == 1 and 1 < stage <= 1 + halvings
            yield f"stage{stage}_block{block}", features, 2 if halves else 1


class Kernel(nn.Module):
    """The weights of a convolution without bias."""

    shape: tuple[int, int, int, int]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self) -> jax.Array:
        """The kernel [height, width, inputs of a group, outputs]."""
        return self.param("kernel", conv_init, self.shape, jnp.float32).astype(self.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation, as the scale and the shift that it amounts to, in float32.

    The running statistics move by a tenth towards each batch's. Their variance is the biased one
    (PyTorch's is unbiased: larger by n / (n - 1)).

    References:
      Ioffe and Szegedy, Batch normalization, https://arxiv.org/abs/1502.03167
    """

    epsilon: float = 1e-5
    momentum: float = 0.9

    @nn.compact
    def __call__(self, sums: jax.Array, count: int, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Find the scale and the shift of each channel.

        Args:
          sums: over the batch's ``count`` pixels, of each channel and of its square, [2, C].
          count: of pixels, in all images together.
          train: normalise by the batch's statistics, else by the running ones.

        Returns:
          Scale [C] and shift [C]: channel c becomes scale[c] x + shift[c].
        """
        size = sums.shape[1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, size, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, size, jnp.float32)
        gamma = self.param("scale", nn.initializers.ones, size, jnp.float32)
        beta = self.param("bias", nn.initializers.zeros, size, jnp.float32)
        mean, var = running_mean.value, running_var.value
        if train:
            mean, square = sums / count
            var = jnp.maximum(square - mean * mean, 0.0)
            if not self.is_initializing():
                for running, batch in ((running_mean, mean), (running_var, var)):
                    running.value = self.momentum * running.value + (1 - self.momentum) * batch
        scale = gamma * jax.lax.rsqrt(var + self.epsilon)
        return scale, beta - mean * scale


def batch_norm(
    convolutions: Convolutions, train: bool, name: str, z: jax.Array, sums: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Scale and shift [C] of activations z [..., C, H, W, images], of which these are the sums."""
    count = convolutions.images * z.shape[-3] * z.shape[-2]
    return BatchNorm(name=name)(sums, count, train=train)
