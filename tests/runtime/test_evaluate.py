import dataclasses

import jax
import numpy as np
import pytest

from cifar_jax import data
from cifar_jax.config import EvalConfig
from cifar_jax.runtime.evaluate import evaluate
from cifar_jax.runtime.trainer import Trainer


@pytest.fixture(scope="module")
def variables(tiny):
    return Trainer(tiny).initial_state().variables


@pytest.fixture(scope="module")
def images():
    dataset = data.make_synthetic(train=10, test=50)
    return dataset.test_images, dataset.test_labels


@pytest.mark.parametrize("size", [1, 7, 50, 64])
def test_each_image_counts_once_at_any_batch_size(tiny, variables, images, size):
    config = dataclasses.replace(tiny, eval=EvalConfig(batch_size=size))
    whole = evaluate(dataclasses.replace(tiny, eval=EvalConfig(batch_size=25)), variables, images)
    found = evaluate(config, variables, images)
    np.testing.assert_allclose(found.probabilities, whole.probabilities, atol=1e-5)
    np.testing.assert_array_equal(found.confusion(), whole.confusion())
    assert found.accuracy == whole.accuracy
    assert found.loss == pytest.approx(whole.loss, rel=1e-5)


def test_figures_follow_from_the_probabilities(tiny, variables, images):
    report = evaluate(tiny, variables, images)
    labels = images[1]
    predicted = report.probabilities.argmax(axis=1)
    assert report.accuracy == (predicted == labels).mean()
    assert report.loss == pytest.approx(
        -np.log(report.probabilities[np.arange(len(labels)), labels]).mean(), rel=1e-5
    )
    assert report.confusion().sum() == len(labels)
    assert report.confusion().trace() == (predicted == labels).sum()
    assert (report.confusion().sum(axis=1) == np.bincount(labels, minlength=10)).all()
    shares = [(predicted[labels == k] == k).mean() for k in range(10)]
    np.testing.assert_allclose(report.per_class_accuracy(), shares)


def test_a_class_without_images_has_no_accuracy(tiny, variables, images):
    chosen = images[1] != 3
    report = evaluate(tiny, variables, (images[0][chosen], images[1][chosen]))
    assert np.isnan(report.per_class_accuracy()).tolist() == [k == 3 for k in range(10)]


def test_no_images(tiny, variables, images):
    with pytest.raises(ValueError, match="at least 1 image"):
        evaluate(tiny, variables, (images[0][:0], images[1][:0]))


def test_full_views_differ_and_are_probabilities(tiny, variables, images):
    plain, full = (evaluate(tiny, variables, images, mode=mode) for mode in ("none", "full"))
    np.testing.assert_allclose(full.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert np.abs(full.probabilities - plain.probabilities).max() > 1e-4
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves((full.probabilities,)))
