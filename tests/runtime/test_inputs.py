"""The sets of images that a run has."""

import numpy as np

from cifar_jax.data import make_synthetic
from cifar_jax.runtime.inputs import load_inputs


def test_no_image_is_in_two_sets_and_each_has_its_label(tiny):
    found = load_inputs(tiny, report=print)
    dataset = make_synthetic(train=240, seed=tiny.data.split_seed)
    images = np.concatenate([dataset.train_images, dataset.test_images])
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    label_of = {x.tobytes(): y for x, y in zip(images, labels, strict=True)}
    seen = [(x.tobytes(), y) for xs, ys in found for x, y in zip(xs, ys, strict=True)]
    assert [len(xs) for xs, _ in found] == [200, 40, 1000]
    assert len({x for x, _ in seen}) == len(seen)
    assert all(label_of[x] == y for x, y in seen)
    assert {x.tobytes() for x in found.test[0]} == {x.tobytes() for x in dataset.test_images}
