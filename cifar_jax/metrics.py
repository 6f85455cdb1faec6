"""Metrics: per-example values and counts; the caller reduces."""

import jax
import jax.numpy as jnp


def target_mass(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """The mass that soft labels put on the predicted class: accuracy where nothing is mixed.

    Args:
      logits: or probabilities, [B, K].
      targets: soft labels [B, K].

    Returns:
      [B], in [0, 1].

    >>> target_mass(jnp.array([[2.0, 1.0]]), jnp.array([[0.7, 0.3]])).tolist()
    [0.699999988079071]
    """
    predicted = jnp.argmax(logits, axis=-1, keepdims=True)
    return jnp.take_along_axis(targets, predicted, axis=-1)[:, 0]


def confusion_matrix(predicted: jax.Array, labels: jax.Array, *, num_classes: int) -> jax.Array:
    """Count examples by true and predicted class.

    Args:
      predicted: classes [N].
      labels: true classes [N].
      num_classes: K.

    Returns:
      Counts [K, K]; rows are true classes, columns predicted ones.
    """
    cells = labels.astype(jnp.int32) * num_classes + predicted.astype(jnp.int32)
    return jnp.bincount(cells, length=num_classes**2).reshape(num_classes, num_classes)
