from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax.losses import cross_entropy, distillation
from cifar_jax.metrics import (
    calibration_error,
    confusion_matrix,
    reliability,
    target_mass,
    top_k_correct,
)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 10)).astype(np.float32) * 3
    targets = rng.dirichlet(np.ones(10), 6).astype(np.float32)
    return jnp.asarray(logits), jnp.asarray(targets)


def reference(logits, targets, smoothing):
    """In float64, by the definition."""
    logits, targets = np.asarray(logits, np.float64), np.asarray(targets, np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    smoothed = (1 - smoothing) * targets + smoothing / logits.shape[1]
    return -(smoothed * np.log(probabilities)).sum(axis=1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_by_definition(batch, smoothing):
    logits, targets = batch
    found = cross_entropy(logits, targets, smoothing=smoothing)
    assert found.shape == (6,)
    np.testing.assert_allclose(found, reference(logits, targets, smoothing), rtol=1e-5)


def test_uniform_logits_cost_log_k():
    found = cross_entropy(jnp.zeros((1, 10)), jax.nn.one_hot(jnp.array([3]), 10), smoothing=0.1)
    np.testing.assert_allclose(found, np.log(10), rtol=1e-6)


def test_losses_of_logits_in_16_bits(batch):
    """They are those of the same numbers in 32 bits."""
    logits, targets = batch
    logits = logits.astype(jnp.bfloat16)
    teacher = logits + 0.1 * logits[::-1]
    for loss in (
        partial(cross_entropy, targets=targets, smoothing=0.1),
        partial(distillation, teacher_logits=teacher, temperature=4.0),
    ):
        found = loss(logits)
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, loss(logits.astype(jnp.float32)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_labels_equal_the_weighted_sum_of_losses(batch, smoothing):
    logits, _ = batch
    a, b = jax.nn.one_hot(jnp.arange(6), 10), jax.nn.one_hot(jnp.arange(6) + 4, 10)
    mixed = cross_entropy(logits, 0.3 * a + 0.7 * b, smoothing=smoothing)
    parts = [cross_entropy(logits, t, smoothing=smoothing) for t in (a, b)]
    np.testing.assert_allclose(mixed, 0.3 * parts[0] + 0.7 * parts[1], rtol=1e-5)


def test_gradient_is_softmax_minus_target(batch):
    logits, targets = batch
    gradient = jax.grad(lambda x: cross_entropy(x, targets).sum())(logits)
    np.testing.assert_allclose(gradient, jax.nn.softmax(logits) - targets, atol=1e-6)


def softened(logits, temperature):
    powers = np.exp(np.asarray(logits, np.float64) / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_by_definition(batch, temperature):
    logits, teacher = batch[0], batch[0][::-1] * 0.5
    own, others = softened(logits, temperature), softened(teacher, temperature)
    expected = temperature**2 * (others * np.log(others / own)).sum(axis=1)
    found = jax.jit(distillation)(logits, teacher, temperature=temperature)
    assert found.shape == (6,)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(distillation(logits, logits + 3, temperature=2.0), 0, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradient_of_distillation(batch, temperature):
    logits, teacher = batch[0], batch[0][::-1]
    gradient = jax.grad(lambda x: distillation(x, teacher, temperature=temperature).sum())(logits)
    expected = temperature * (softened(logits, temperature) - softened(teacher, temperature))
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_classes_that_cannot_be():
    """0 log 0 is 0."""
    logits, target = jnp.array([[1.0, -jnp.inf, 0.0]]), jnp.array([[1.0, 0.0, 0.0]])
    share = float(jax.nn.sigmoid(1.0))
    loss, gradient = jax.value_and_grad(lambda x: cross_entropy(x, target).sum())(logits)
    np.testing.assert_allclose(loss, -np.log(share), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[share - 1, 0, 1 - share]], rtol=1e-6)
    assert cross_entropy(logits, target, smoothing=0.1) == jnp.inf

    student = jnp.array([[1.0, 0.5, 0.0]])
    own, others = softened(student, 2.0)[0], np.array([*softened([[1.0, 0.0]], 2.0)[0]])
    expected = 4 * (others * np.log(others / own[[0, 2]])).sum()
    found, gradient = jax.value_and_grad(lambda x: distillation(x, logits, temperature=2.0).sum())(
        student
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient[0, 1], 2 * own[1], rtol=1e-5)
    found, gradient = jax.value_and_grad(lambda x: distillation(x, logits, temperature=2.0).sum())(
        logits
    )
    np.testing.assert_allclose(found, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, np.zeros((1, 3)), atol=1e-6)
    assert distillation(logits, student) == jnp.inf


def test_transformations(batch):
    eager = cross_entropy(*batch, smoothing=0.1)
    jitted = jax.jit(lambda x, t: cross_entropy(x, t, smoothing=0.1))(*batch)
    mapped = jax.vmap(lambda x, t: cross_entropy(x[None], t[None], smoothing=0.1)[0])(*batch)
    np.testing.assert_allclose(jitted, eager, rtol=1e-6)
    np.testing.assert_allclose(mapped, eager, rtol=1e-6)


def test_target_mass():
    logits = jnp.array([[1.0, 3.0, 2.0], [5.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    targets = jnp.array([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(target_mass(logits, targets), [0.5, 0.0, 1.0])
    np.testing.assert_allclose(jax.jit(target_mass)(logits, targets), [0.5, 0.0, 1.0])


def test_confusion_matrix_against_a_loop():
    rng = np.random.default_rng(1)
    predicted, labels = rng.integers(0, 5, (2, 300))
    expected = np.zeros((5, 5), int)
    for p, t in zip(predicted, labels, strict=True):
        expected[t, p] += 1
    found = confusion_matrix(
        jnp.asarray(predicted, jnp.int32), jnp.asarray(labels, jnp.uint8), num_classes=5
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_against_a_loop(bins):
    rng = np.random.default_rng(2)
    probabilities = rng.dirichlet([0.3] * 4, 500).astype(np.float32)
    labels = rng.integers(0, 4, 500).astype(np.uint8)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for low in range(bins):
        inside = (confidence > low / bins) & (confidence <= (low + 1) / bins)
        if inside.any():
            gap = abs(confidence[inside].mean() - right[inside].mean())
            expected += inside.mean() * gap
    found = jax.jit(partial(calibration_error, bins=bins))(probabilities, labels)
    assert float(found) == pytest.approx(expected, abs=1e-5)
    assert expected > 0.05


def test_certain_and_right_is_calibrated():
    assert float(calibration_error(jnp.eye(3), jnp.arange(3))) == 0
    assert float(calibration_error(jnp.eye(3), jnp.array([1, 2, 0]))) == pytest.approx(1)


def test_neighbouring_bins_do_not_cancel():
    """One of 40 classes at 0.05 (the first of 15 bins) and right, one at 0.1 and wrong."""
    best = jnp.array([0.05, 0.1])
    rest = (1 - best) / 39
    probabilities = jnp.concatenate([best[:, None], jnp.repeat(rest[:, None], 39, 1)], axis=1)
    found = calibration_error(probabilities, jnp.array([0, 1]))
    assert float(found) == pytest.approx((0.95 + 0.1) / 2)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_against_a_sort(k):
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet([0.3] * 5, 200).astype(np.float32)
    labels = rng.integers(0, 5, 200).astype(np.uint8)
    order = np.argsort(-probabilities, axis=1)
    expected = [label in row for label, row in zip(labels, order[:, :k], strict=True)]
    found = jax.jit(partial(top_k_correct, k=k))(probabilities, labels)
    np.testing.assert_array_equal(found, expected)
    assert found.all() == (k == 5)


def test_of_equal_classes_the_first_count():
    equal = jnp.full((4, 4), 0.25)
    found = top_k_correct(equal, jnp.arange(4), k=2)
    assert found.tolist() == [True, True, False, False]
    assert (top_k_correct(equal, jnp.arange(4), k=1) == (equal.argmax(1) == jnp.arange(4))).all()


@pytest.mark.parametrize("bins", [1, 15])
def test_reliability_against_a_loop(bins):
    rng = np.random.default_rng(4)
    probabilities = rng.dirichlet([0.3] * 4, 500).astype(np.float32)
    labels = rng.integers(0, 4, 500).astype(np.uint8)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    found = jax.jit(partial(reliability, bins=bins))(probabilities, labels)
    for low, count, correct, gap in zip(range(bins), *found, strict=True):
        inside = (confidence > low / bins) & (confidence <= (low + 1) / bins)
        assert float(count) == inside.sum()
        assert float(correct) == right[inside].sum()
        assert float(gap) == pytest.approx((confidence - right)[inside].sum(), abs=1e-4)


def test_counts_do_not_stop_where_bfloat16_does():
    probabilities = jnp.full((1000, 2), 0.5, jnp.bfloat16)
    count, correct, _ = reliability(probabilities, jnp.zeros(1000, jnp.int32))
    assert (float(count.sum()), float(correct.sum())) == (1000, 1000)
