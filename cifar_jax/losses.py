"""Losses: one value an example; the caller reduces."""

import jax
import optax


def cross_entropy(logits: jax.Array, targets: jax.Array, *, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy with soft labels and label smoothing.

    With soft labels it equals the weighted sum of the cross-entropies with each label, which is
    how MixUp, CutMix and RICAP are written in their papers.

    Args:
      logits: [B, K].
      targets: soft labels [B, K], each row summing to 1.
      smoothing: mass spread evenly over all K classes, in [0, 1).

    Returns:
      [B], in nats.

    References:
      Szegedy et al., Rethinking the Inception Architecture, https://arxiv.org/abs/1512.00567
    """
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, smoothing))


def distillation(
    logits: jax.Array, teacher_logits: jax.Array, *, temperature: jax.typing.ArrayLike = 1.0
) -> jax.Array:
    """How far the class probabilities of a network are from those of its teacher.

    temperature² times the Kullback-Leibler divergence KL(teacher || network) of the softmax of the
    logits over the temperature: the factor keeps the size of the gradient.

    Args:
      logits: [B, K].
      teacher_logits: [B, K].
      temperature: that softens both, positive.

    Returns:
      [B], in nats times temperature².

    References:
      Hinton et al., Distilling the knowledge in a neural network, https://arxiv.org/abs/1503.02531
    """
    log_probs, teacher_log_probs = (
        jax.nn.log_softmax(x / temperature) for x in (logits, teacher_logits)
    )
    divergence = optax.losses.kl_divergence_with_log_targets(log_probs, teacher_log_probs)
    return divergence * temperature**2
