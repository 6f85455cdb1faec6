"""Choosing images: a validation split and smaller training sets, stratified and fixed by a seed."""

import numpy as np


def train_validation_split(
    labels: np.ndarray, validation_examples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Holds out a stratified validation set.

    Args:
      labels: integer class of each example, [N].
      validation_examples: how many to hold out, 0 to N-1; each class gives the same number, or as
        nearly so as its size and the remainder allow.
      seed: of numpy's PCG64 generator; nothing else decides which examples are chosen.

    Returns:
      Indices into ``labels`` to train on, [N - validation_examples], and to validate on,
      [validation_examples]; int64, ascending, disjoint.

    Raises:
      ValueError: ``validation_examples`` is negative or leaves nothing to train on.

    >>> labels = np.array([0, 0, 0, 1, 1, 1])
    >>> train, validation = train_validation_split(labels, 2, seed=0)
    >>> labels[validation]
    array([0, 1])
    """
    if not 0 <= validation_examples < max(len(labels), 1):
        raise ValueError(
            f"validation_examples must be at least 0 and below {len(labels)}, the number of "
            f"examples, not {validation_examples}"
        )
    held_out = _stratified(labels, validation_examples, seed, stream=0)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def select_train_examples(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Chooses a stratified subset.

    Args:
      labels: integer class of each example, [N].
      count: how many to choose, at most N; 0 for all.
      seed: of numpy's PCG64 generator; independent of `train_validation_split` with the same seed.

    Returns:
      Indices into ``labels``, int64, ascending, [count].

    Raises:
      ValueError: ``count`` is negative or above N.
    """
    if not 0 <= count <= len(labels):
        raise ValueError(
            f"count must be from 0 to {len(labels)}, the number of examples, not {count}"
        )
    return np.flatnonzero(_stratified(labels, count or len(labels), seed, stream=1))


def _stratified(labels: np.ndarray, count: int, seed: int, stream: int) -> np.ndarray:
    """A mask of ``count`` examples, as even over the classes as their sizes allow."""
    rng = np.random.Generator(np.random.PCG64([seed, stream]))
    chosen = np.zeros(len(labels), bool)
    members = [rng.permutation(np.flatnonzero(labels == name)) for name in np.unique(labels)]
    sizes = np.array([len(indices) for indices in members], np.int64)
    quota = np.zeros_like(sizes)
    while (left := count - quota.sum()) > 0:
        unfilled = np.flatnonzero(quota < sizes)
        if left < len(unfilled):  # the remainder: one each from classes drawn by lot
            quota[rng.permutation(unfilled)[:left]] += 1
        else:
            share = left // len(unfilled)
            quota[unfilled] = np.minimum(quota[unfilled] + share, sizes[unfilled])
    for indices, number in zip(members, quota, strict=True):
        chosen[indices[:number]] = True
    return chosen
