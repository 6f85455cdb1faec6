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
