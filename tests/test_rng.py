import itertools
from typing import get_args

import jax
import numpy as np
import pytest

from cifar_jax.rng import Stream, stream_key


def test_every_seed_stream_and_step_has_its_own_key():
    keys = [
        tuple(jax.random.key_data(stream_key(jax.random.key(seed), stream, step)).tolist())
        for seed, stream, step in itertools.product(range(3), get_args(Stream), range(20))
    ]
    assert len(set(keys)) == len(keys)


def test_the_same_arguments_give_the_same_key_traced_or_not():
    key = jax.random.key(5)
    traced = jax.jit(lambda step: stream_key(key, "mix", step))(np.int32(7))
    assert traced == stream_key(key, "mix", 7)


def test_unknown_stream():
    with pytest.raises(KeyError):
        stream_key(jax.random.key(0), "weights")  # pyright: ignore[reportArgumentType]
