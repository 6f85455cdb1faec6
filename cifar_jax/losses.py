"""Losses: one value an example; the caller reduces."""

import jax
import jax.numpy as jnp
import optax

from cifar_jax.checks import require_shape


def cross_entropy(logits: jax.Array, targets: jax.Array, *, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy with soft labels and label smoothing.

    With soft labels it equals the weighted sum of the cross-entropies with each label, which is
    how MixUp, CutMix and RICAP are written in their papers.

    Args:
      logits: [B, K]; -inf for a class that cannot be.
      targets: soft labels [B, K], each row summing to 1.
      smoothing: mass spread evenly over all K classes, in [0, 1).

    Returns:
      float32 [B], in nats; float32 inside as well, whatever the dtype of the logits.

    Raises:
      ValueError: for targets of another shape than the logits, integer labels for example.

    References:
      Szegedy et al., Rethinking the Inception Architecture, https://arxiv.org/abs/1512.00567
    """
    require_shape(logits.shape, targets=targets)
    smoothed = optax.smooth_labels(targets.astype(jnp.float32), smoothing)
    return optax.losses.safe_softmax_cross_entropy(logits.astype(jnp.float32), smoothed)


def distillation(
    logits: jax.Array, teacher_logits: jax.Array, *, temperature: jax.typing.ArrayLike = 1.0
) -> jax.Array:
    """How far the class probabilities of a network are from those of its teacher.

    temperature² times the Kullback-Leibler divergence KL(teacher || network) of the softmax of the
    logits over the temperature: the factor keeps the size of the gradient.

    Args:
      logits: [B, K].
      teacher_logits: [B, K]; -inf for a class of probability 0.
      temperature: that softens both, positive.

    Returns:
      float32 [B], in nats times temperature²; float32 inside as well: the divergence is a small
      difference of large numbers, of which 16 bits leave nothing.

    Raises:
      ValueError: for logits of different shapes.

    References:
      Hinton et al., Distilling the knowledge in a neural network, https://arxiv.org/abs/1503.02531
    """
    require_shape(logits.shape, teacher_logits=teacher_logits)
    log_probs, teacher_log_probs = (
        jax.nn.log_softmax(x.astype(jnp.float32) / temperature) for x in (logits, teacher_logits)
    )
    gap = jnp.where(teacher_log_probs == -jnp.inf, 0.0, teacher_log_probs - log_probs)  # 0 log 0: 0
    return jnp.sum(jnp.exp(teacher_log_probs) * gap, axis=-1) * temperature**2
