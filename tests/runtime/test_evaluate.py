import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax import data
from cifar_jax.config import AugmentConfig, EvalConfig
from cifar_jax.models import SeparableResNet
from cifar_jax.runtime.environment import OutOfMemory
from cifar_jax.runtime.evaluate import evaluate, evaluate_with
from cifar_jax.runtime.score import score_variables
from cifar_jax.runtime.trainer import Trainer
from cifar_jax.steps import make_eval_step


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


@pytest.mark.parametrize(("count", "size"), [(1, 1), (5, 8), (50, 64)])
def test_few_images_are_a_small_batch(tiny, variables, images, monkeypatch, count, size):
    sizes = []

    def compiled(*_):
        step = jax.jit(make_eval_step(Trainer(tiny).model.apply, tiny.augment))
        return lambda variables, batch: sizes.append(len(batch[0])) or step(variables, batch)

    monkeypatch.setattr("cifar_jax.runtime.evaluate._compiled_step", compiled)
    config = dataclasses.replace(tiny, eval=EvalConfig(batch_size=1000))
    report = evaluate(config, variables, (images[0][:count], images[1][:count]))
    assert sizes == [size]
    assert len(report.probabilities) == count


@pytest.mark.parametrize("mode", ["none", "flip", "full"])
def test_figures_follow_from_the_probabilities(tiny, variables, images, mode):
    report = evaluate(tiny, variables, images, mode=mode)
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


def test_top_2_and_reliability_by_formula(tiny, variables, images):
    report = evaluate(tiny, variables, images)
    rows, labels = report.probabilities, images[1].astype(int)
    above = (rows > rows[np.arange(len(labels)), labels][:, None]).sum(axis=1)
    assert report.top_k_accuracy(2) == (above < 2).mean() > report.accuracy
    assert report.top_k_accuracy(1) == report.accuracy
    bars = report.reliability()
    assert bars["images"].sum() == len(labels)
    assert (np.isnan(bars["accuracy"]) == (bars["images"] == 0)).all()
    shares = bars["images"] / len(labels)
    assert np.nansum(shares * bars["accuracy"]) == pytest.approx(report.accuracy)
    assert np.nansum(shares * bars["confidence"]) == pytest.approx(rows.max(axis=1).mean())
    gaps = np.abs(bars["confidence"] - bars["accuracy"])
    assert np.nansum(shares * gaps) == pytest.approx(report.calibration_error(), abs=1e-6)


def test_the_batches_can_be_watched(tiny, variables, images):
    seen = []
    evaluate(tiny, variables, images, watch=lambda batches: seen.extend(batches) or batches)
    assert seen == [0]
    config = dataclasses.replace(tiny, eval=EvalConfig(batch_size=25))
    evaluate(config, variables, images, watch=lambda batches: seen.extend(batches) or batches)
    assert seen == [0, 0, 25]


def test_all_views(tiny, variables, images):
    tiny = tiny.replace(eval={"tta": "full"})
    found = score_variables(tiny, variables, images, all_views=True)
    assert list(found["views"]) == ["none", "flip", "full"]
    for mode, figures in found["views"].items():
        report = evaluate(tiny, variables, images, mode=mode)
        assert figures["accuracy"] == report.accuracy
        assert figures["loss"] == pytest.approx(report.loss, rel=1e-5)
    assert found["views"]["none"] == {name: found[name] for name in ("accuracy", "loss")}
    assert found["tta_accuracy"] == found["views"]["full"]["accuracy"]
    assert list(score_variables(tiny, variables, images)["views"]) == ["none", "full"]
    json.dumps(found, allow_nan=False)


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


def test_any_network_of_any_size():
    model = SeparableResNet(num_classes=3, stem=4, stages=(4,), blocks=1)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (7, 16, 16, 1), np.uint8)
    labels = rng.integers(0, 3, 7, np.uint8)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 16, 16, 1), np.float32))
    grey = AugmentConfig(mean=(0.5,), std=(0.25,))
    eval_step = jax.jit(make_eval_step(model.apply, grey, modes=("none", "flip")))
    reports = evaluate_with(eval_step, variables, (pixels, labels), batch_size=3)
    assert list(reports) == ["none", "flip"]
    seen = (pixels / np.float32(255) - np.float32(0.5)) / np.float32(0.25)
    logits = [jnp.asarray(model.apply(variables, view)) for view in (seen, seen[:, :, ::-1])]
    straight, mirrored = map(jax.nn.softmax, logits)
    both = (straight + mirrored) / 2
    for found, expected in ((reports["none"], straight), (reports["flip"], both)):
        np.testing.assert_allclose(found.probabilities, expected, rtol=1e-4)
        assert found.accuracy == (np.asarray(expected).argmax(axis=1) == labels).mean()
    with pytest.raises(ValueError, match="at least 1 image, not 0"):
        evaluate_with(eval_step, variables, (pixels[:0], labels[:0]))

    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory.")

    with pytest.raises(OutOfMemory, match=r"with batch_size 4: try batch_size 2$"):
        evaluate_with(exhausted, variables, (pixels, labels), batch_size=4)
