"""Stratified choices: sizes, disjointness, evenness, and what the seed fixes."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_jax.data import select_train_examples, train_validation_split

CIFAR_LABELS = np.random.default_rng(0).permutation(np.arange(50_000) % 10).astype(np.uint8)
label_lists = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def test_cifar_split():
    train, validation = train_validation_split(CIFAR_LABELS, 5000, seed=0)
    assert np.bincount(CIFAR_LABELS[validation]).tolist() == [500] * 10
    assert np.bincount(CIFAR_LABELS[train]).tolist() == [4500] * 10
    assert np.array_equal(np.union1d(train, validation), np.arange(50_000))
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()


def test_the_seed_decides():
    _, first = train_validation_split(CIFAR_LABELS, 5000, seed=0)
    _, again = train_validation_split(CIFAR_LABELS.astype(np.int64), 5000, seed=0)
    _, other = train_validation_split(CIFAR_LABELS, 5000, seed=1)
    np.testing.assert_array_equal(first, again)
    assert len(np.intersect1d(first, other)) < 700  # 500 by chance
    # Changes only if a split of an earlier version can no longer be had.
    digest = hashlib.sha256(first.astype("<i8").tobytes()).hexdigest()
    assert digest == "a07cbd976754fadaeb4133491709f222f9235ae304757aa20495efd660f5d663"


def test_the_two_choices_are_independent():
    _, validation = train_validation_split(CIFAR_LABELS, 5000, seed=0)
    chosen = select_train_examples(CIFAR_LABELS, 5000, seed=0)
    assert 350 < len(np.intersect1d(validation, chosen)) < 650  # 500 by chance


def test_a_larger_choice_holds_the_smaller():
    small = select_train_examples(CIFAR_LABELS, 1000, seed=3)
    large = select_train_examples(CIFAR_LABELS, 10_000, seed=3)
    assert np.isin(small, large).all()


def test_zero():
    train, validation = train_validation_split(CIFAR_LABELS, 0, seed=0)
    np.testing.assert_array_equal(train, np.arange(50_000))
    assert validation.shape == (0,)
    assert validation.dtype == train.dtype == np.int64
    np.testing.assert_array_equal(select_train_examples(CIFAR_LABELS, 0, 0), np.arange(50_000))


@given(label_lists, st.integers(0, 59), st.integers(0, 2**32 - 1))
def test_as_even_as_possible(labels, count, seed):
    labels = np.array(labels)
    count %= len(labels)
    train, validation = train_validation_split(labels, count, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert len(validation) == count
    taken = np.bincount(labels[validation], minlength=5)
    sizes = np.bincount(labels, minlength=5)
    # Only a class that is used up may give over one fewer than another.
    assert all(taken[a] >= taken.max() - 1 for a in range(5) if taken[a] < sizes[a])


@pytest.mark.parametrize("count", [-1, 10, 11])
def test_impossible_sizes(count):
    labels = np.arange(10)
    with pytest.raises(
        ValueError, match=f"validation_examples must be .* below 10, .* not {count}"
    ):
        train_validation_split(labels, count, 0)


def test_impossible_choice():
    labels = np.arange(10)
    assert len(select_train_examples(labels, 10, 0)) == 10
    for count in (-1, 11):
        with pytest.raises(ValueError, match=f"count must be from 0 to 10, .* not {count}"):
            select_train_examples(labels, count, 0)
