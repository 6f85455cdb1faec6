"""Randomness is a function of (seed, stream, step), so a resumed run needs no saved key."""

from typing import Literal, get_args

import jax

Stream = Literal["init", "order", "augment", "mix", "dropout", "flip"]

_NUMBERS = {stream: number for number, stream in enumerate(get_args(Stream))}  # so only append


def stream_key(key: jax.Array, stream: Stream, step: int | jax.Array = 0) -> jax.Array:
    """The key of one stream at one step.

    Draw of your own from a stream's key, never from the run's: what ``jax.random.split`` or
    ``fold_in`` make of that are the streams themselves.

    Args:
      key: the run's key, ``jax.random.key(seed)``.
      stream: what the key is for; each stream is independent of the others.
      step: which draw of the stream, a global step or an epoch, below 2**32.

    Returns:
      A key that depends on nothing else.

    >>> run = jax.random.key(3)
    >>> bool((stream_key(run, "order", 7) == stream_key(run, "order", 7)).all())
    True
    """
    return jax.random.fold_in(jax.random.fold_in(key, _NUMBERS[stream]), step)
