"""Metrics: per-example values and counts; the caller reduces.

Labels or targets of another shape than a function documents raise ValueError.
"""

import jax
import jax.numpy as jnp

from cifar_jax.checks import require_shape


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
    require_shape(logits.shape, targets=targets)
    predicted = jnp.argmax(logits, axis=-1, keepdims=True)
    return jnp.take_along_axis(targets, predicted, axis=-1)[:, 0]


def top_k_correct(probabilities: jax.Array, labels: jax.Array, *, k: int) -> jax.Array:
    """Whether the true class is among the k most probable; of equal ones, the first count.

    Args:
      probabilities: or logits, [N, K].
      labels: true classes [N].
      k: 1 to K.

    Returns:
      Booleans [N].

    >>> top_k_correct(jnp.array([[0.1, 0.3, 0.6]] * 2), jnp.array([1, 0]), k=2).tolist()
    [True, False]
    """
    require_shape(probabilities.shape[:1], labels=labels)
    _, classes = jax.lax.top_k(probabilities, k)
    return jnp.any(classes == labels.astype(jnp.int32)[:, None], axis=-1)


def reliability(
    probabilities: jax.Array, labels: jax.Array, *, bins: int = 15
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What a reliability diagram shows: how often predictions of a given confidence are right.

    Predictions are sorted into ``bins`` equal intervals of the predicted class's probability, each
    without its lower end.

    Args:
      probabilities: [N, K], rows sum to 1.
      labels: true classes [N].
      bins: intervals of [0, 1].

    Returns:
      Three sums [bins], float32: of the predictions, of those that are right, and of the
      differences between the predicted class's probability and 1 if right, 0 if wrong.

    References:
      Guo et al., On calibration of modern neural networks, https://arxiv.org/abs/1706.04599
    """
    require_shape(probabilities.shape[:1], labels=labels)
    confidence = jnp.max(probabilities, axis=-1).astype(jnp.float32)
    right = jnp.argmax(probabilities, axis=-1) == labels.astype(jnp.int32)
    right = right.astype(jnp.float32)
    bin_of = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    empty = jnp.zeros(bins, jnp.float32)
    count, correct, gap = (
        empty.at[bin_of].add(x) for x in (jnp.ones_like(right), right, confidence - right)
    )
    return count, correct, gap


def calibration_error(probabilities: jax.Array, labels: jax.Array, *, bins: int = 15) -> jax.Array:
    """The expected calibration error: how far confidence is from accuracy.

    The differences between each bin's mean probability and its accuracy (see :func:`reliability`)
    are weighed by its size.

    Args:
      probabilities: [N, K], rows sum to 1.
      labels: true classes [N].
      bins: intervals of [0, 1].

    Returns:
      A scalar in [0, 1].

    References:
      Guo et al., On calibration of modern neural networks, https://arxiv.org/abs/1706.04599

    >>> float(calibration_error(jnp.array([[0.75, 0.25], [0.75, 0.25]]), jnp.array([0, 1])))
    0.25
    """
    _, _, gap = reliability(probabilities, labels, bins=bins)
    return jnp.sum(jnp.abs(gap)) / len(labels)


def confusion_matrix(predicted: jax.Array, labels: jax.Array, *, num_classes: int) -> jax.Array:
    """Count examples by true and predicted class.

    Args:
      predicted: classes [N], each in [0, K).
      labels: true classes [N], each in [0, K).
      num_classes: K.

    Returns:
      Counts [K, K]; rows are true classes, columns predicted ones.
    """
    require_shape(predicted.shape, labels=labels)
    cells = labels.astype(jnp.int32) * num_classes + predicted.astype(jnp.int32)
    return jnp.bincount(cells, length=num_classes**2).reshape(num_classes, num_classes)
