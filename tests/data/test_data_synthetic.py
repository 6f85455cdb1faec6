"""The generated data set: deterministic, like CIFAR-10 in form, learnable under augmentation."""

import numpy as np
import pytest

from cifar_jax.data import Dataset, load_cifar10, make_synthetic


def spectrum(images: np.ndarray) -> np.ndarray:
    """Power at each frequency of the luminance: blind to shifts, colours and contrast."""
    luminance = images.mean(-1)
    luminance = luminance - luminance.mean((1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(luminance)).reshape(len(images), -1)
    return power / np.linalg.norm(power, axis=1, keepdims=True)


def nearest_mean_accuracy(dataset: Dataset, feature) -> float:
    train, test = feature(dataset.train_images), feature(dataset.test_images)
    means = np.stack([train[dataset.train_labels == label].mean(0) for label in range(10)])
    distances = ((test[:, None] - means) ** 2).sum(-1)
    return float((distances.argmin(1) == dataset.test_labels).mean())


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_synthetic(1000, 500, seed=0)


def test_shapes_types_and_classes(dataset):
    assert dataset.train_images.shape == (1000, 32, 32, 3)
    assert dataset.test_images.shape == (500, 32, 32, 3)
    assert {array.dtype for array in dataset} == {np.dtype(np.uint8)}
    assert np.bincount(dataset.train_labels).tolist() == [100] * 10
    assert sorted(np.bincount(make_synthetic(13, 4).train_labels).tolist()) == [1] * 7 + [2] * 3


def test_the_seed_decides(dataset):
    for again, first in zip(make_synthetic(1000, 500, seed=0), dataset, strict=True):
        np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(make_synthetic(1000, 7).train_images, dataset.train_images)
    assert (make_synthetic(1000, 500, seed=1).train_images != dataset.train_images).mean() > 0.9
    assert (dataset.train_images[:500] != dataset.test_images).mean() > 0.9


def test_learnable_but_not_by_raw_pixels(dataset):
    assert nearest_mean_accuracy(dataset, spectrum) > 0.6
    raw = nearest_mean_accuracy(dataset, lambda images: images.reshape(len(images), -1) / 255)
    assert raw < 0.3


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images[:, :, ::-1],
        lambda images: np.roll(images, (5, -7), (1, 2)),
        lambda images: images[..., [1, 2, 0]],
        lambda images: np.clip(images * 0.8 + 30, 0, 255),
    ],
    ids=["flip", "shift", "hue", "brightness"],
)
def test_augmentation_keeps_the_class(dataset, change):
    changed = dataset._replace(test_images=change(dataset.test_images))
    assert nearest_mean_accuracy(changed, spectrum) > 0.55


def test_source(tmp_path):
    dataset = load_cifar10(tmp_path / "data", "synthetic")
    assert [len(array) for array in dataset] == [5000, 5000, 1000, 1000]
    assert list(tmp_path.iterdir()) == []
