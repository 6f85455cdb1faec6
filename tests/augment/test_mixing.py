"""What was drawn is read off the result: pixel (y, x) of image b holds the number b, y, x."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax.augment import cutmix, draw_cutmix_box, mixup, ricap

COUNT, HEIGHT, WIDTH = 16, 12, 18
KEYS = [jax.random.key(seed) for seed in range(40)]
METHODS = {
    "mixup": (jax.jit(mixup), {"alpha": 1.0}),
    "mixup per image": (jax.jit(partial(mixup, per_image=True)), {"alpha": 1.0}),
    "cutmix": (jax.jit(cutmix), {"alpha": 1.0}),
    "cutmix per image": (jax.jit(partial(cutmix, per_image=True)), {"alpha": 1.0}),
    "ricap": (jitted_ricap := jax.jit(ricap), {"beta": 0.3}),
    "ricap at the edges": (jitted_ricap, {"beta": 0.02}),
    "ricap in the middle": (jitted_ricap, {"beta": 5.0}),
}


def compiled(name):
    function, options = METHODS[name]
    return partial(function, **options)


def test_numpy_arrays_are_taken_as_they_are(coded):
    images, targets = np.asarray(coded), np.eye(COUNT, dtype=np.float32)
    for function, options in METHODS.values():
        found = jax.jit(lambda key, f=function, o=options: f(key, images, targets, **o))(KEYS[0])
        expected = function(KEYS[0], coded, jnp.asarray(targets), **options)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.fixture(params=METHODS)
def method(request):
    return compiled(request.param)


@pytest.fixture(scope="module")
def coded():
    b, y, x = np.mgrid[:COUNT, :HEIGHT, :WIDTH]
    return jnp.asarray(np.stack([b, y, x], -1), jnp.float32)


def cross_entropy(logits, targets):
    return -(targets * np.asarray(jax.nn.log_softmax(logits))).sum(-1)


def test_soft_labels_sum_to_one_and_shapes_stay(method, images, targets):
    for key in KEYS:
        mixed, labels = method(key, images, targets)
        assert (mixed.shape, mixed.dtype) == (images.shape, images.dtype)
        np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
        assert labels.min() >= 0


def test_labels_are_the_shares_of_the_images(method, targets):
    """Each class has a colour and its image is all of it: the mean over pixels shows the label."""
    colours = jax.random.uniform(jax.random.key(0), (COUNT, 3))
    images = jnp.broadcast_to(colours[:, None, None], (COUNT, HEIGHT, WIDTH, 3))
    for key in KEYS:
        mixed, labels = method(key, images, targets)
        np.testing.assert_allclose(mixed.mean((1, 2)), labels @ colours, atol=1e-5)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "ricap"])
def test_bfloat16_images_and_targets(images, targets, name):
    run, images = compiled(name), images.astype(jnp.bfloat16)
    for key in KEYS[:5]:
        narrow = run(key, images, targets.astype(jnp.bfloat16))
        wide = run(key, images.astype(jnp.float32), targets)
        for part, expected in zip(narrow, wide, strict=True):
            assert part.dtype == jnp.bfloat16
            np.testing.assert_allclose(part.astype(jnp.float32), expected, atol=2**-8)


@pytest.mark.parametrize("per_image", [False, True])
def test_mixup_against_the_reference(images, targets, per_image):
    """Labels show lam and the partner; images must be their blend."""
    run = compiled("mixup per image" if per_image else "mixup")
    lams, fixed = [], 0
    for key in KEYS:
        mixed, labels = (np.asarray(part) for part in run(key, images, targets))
        lam = np.diag(labels)
        rest = labels - np.diag(lam)
        partner = np.where(rest.max(1) > 1e-6, rest.argmax(1), np.arange(COUNT))
        assert sorted(partner) == list(range(COUNT))
        own = partner == np.arange(COUNT)  # fixed points of the permutation hide their lam
        fixed += own.sum()
        assert (np.ptp(lam[~own]) < 1e-6) != per_image
        lam = np.where(own, 1, lam).reshape(-1, 1, 1, 1)
        first, second = np.asarray(images), np.asarray(images)[partner]
        np.testing.assert_allclose(mixed, lam * first + (1 - lam) * second, atol=1e-6)
        lams.append(lam[~own].min())
        logits = np.asarray(images[:, 0, :COUNT, 0])
        weighted = lam[:, 0, 0, 0] * cross_entropy(logits, np.asarray(targets))
        weighted += (1 - lam[:, 0, 0, 0]) * cross_entropy(logits, np.asarray(targets)[partner])
        np.testing.assert_allclose(cross_entropy(logits, labels), weighted, atol=1e-5)
    assert len(set(lams)) == len(KEYS)
    assert 0 < fixed < 3 * len(KEYS)  # a random permutation has one fixed point on average


@pytest.mark.parametrize("per_image", [False, True])
def test_cutmix_against_the_reference(coded, targets, per_image):
    """One rectangle of one partner, in place; the label counts its pixels."""
    run = compiled("cutmix per image" if per_image else "cutmix")
    shapes = []
    for key in KEYS:
        mixed, labels = (np.asarray(part) for part in run(key, coded, targets))
        np.testing.assert_array_equal(mixed[..., 1:], np.asarray(coded)[..., 1:])
        boxes = {}
        for b in range(COUNT):
            foreign = mixed[b, :, :, 0] != b
            share = np.zeros(COUNT)
            share[b] = 1 - foreign.mean()
            if foreign.any():
                (partner,) = set(mixed[b, :, :, 0][foreign].astype(int))
                share[partner] = foreign.mean()
                rows, columns = np.flatnonzero(foreign.any(1)), np.flatnonzero(foreign.any(0))
                box = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)
                assert foreign[box[0] : box[1], box[2] : box[3]].all()
                assert foreign.sum() == (box[1] - box[0]) * (box[3] - box[2])
                boxes[b] = box
            np.testing.assert_allclose(labels[b], share, atol=1e-6)
        shapes.append(len(set(boxes.values())))
    assert max(shapes) > 5 if per_image else max(shapes) == 1


def test_cutmix_box_against_the_reference():
    """For a few lam, all boxes that the reference can draw, and no other, occur."""
    height, width, count = 12, 18, 4000
    draw = jax.jit(lambda key, lam: draw_cutmix_box(key, lam, height=height, width=width))
    for lam in (0.0, 0.3, 0.75, 0.993, 1.0):
        box = draw(jax.random.key(5), jnp.full((count,), lam))
        for start, end, side in ((*box[:2], height), (*box[2:], width)):
            half = int(side * np.sqrt(1 - lam)) // 2
            possible = {(max(c - half, 0), min(c + half, side)) for c in range(side)}
            found = set(zip(np.asarray(start).tolist(), np.asarray(end).tolist(), strict=True))
            assert found == possible
        assert abs(np.corrcoef(box.top, box.left)[0, 1]) < 5 / np.sqrt(count)


def ricap_by_loops(images, targets, corner, crops, partners):
    """The reference code, with what it draws as arguments."""
    h, w = corner
    _, height, width, _ = images.shape
    patches, labels = [], 0
    for k, (ph, pw) in enumerate(
        [(h, w), (h, width - w), (height - h, w), (height - h, width - w)]
    ):
        y, x = crops[k]
        patches.append(images[partners[k]][:, y : y + ph, x : x + pw])
        labels = labels + ph * pw / (height * width) * targets[partners[k]]
    top, bottom = np.concatenate(patches[:2], 2), np.concatenate(patches[2:], 2)
    return np.concatenate([top, bottom], 1), labels


def read_ricap(mixed):
    """Corner, crop offsets and partners of the four patches, read off coded images."""
    h, w = find_corner(mixed)
    crops, partners = [], []
    for rows, columns in (
        (slice(0, h), slice(0, w)),
        (slice(0, h), slice(w, None)),
        (slice(h, None), slice(0, w)),
        (slice(h, None), slice(w, None)),
    ):
        patch = mixed[:, rows, columns].astype(int).reshape(COUNT, -1, 3)
        first = patch[:, 0] if patch.size else np.zeros((COUNT, 3), int)
        assert len({tuple(crop) for crop in first[:, 1:]}) == 1  # shared by the batch
        assert not patch.size or sorted(first[:, 0]) == list(range(COUNT))
        crops.append(first[0, 1:])
        partners.append(first[:, 0])
    return (h, w), crops, partners


@pytest.mark.parametrize("name", ["ricap", "ricap at the edges", "ricap in the middle"])
def test_ricap_against_the_reference(coded, targets, name):
    """The reference code, given what was drawn, must agree."""
    patch_counts = set()
    for key in KEYS:
        mixed, labels = (np.asarray(x).astype(float) for x in compiled(name)(key, coded, targets))
        (h, w), crops, partners = read_ricap(mixed)
        expected, shares = ricap_by_loops(
            np.asarray(coded), np.asarray(targets), (h, w), crops, partners
        )
        np.testing.assert_array_equal(mixed, expected)
        np.testing.assert_allclose(labels, shares, atol=1e-6)
        patch_counts.add((1 if h in (0, HEIGHT) else 2) * (1 if w in (0, WIDTH) else 2))
    kinds = {"ricap": {1, 2, 4}, "ricap at the edges": {1, 2}, "ricap in the middle": {4}}
    assert patch_counts >= kinds[name]


def test_ricap_crops_are_uniform_and_permutations_independent(coded, targets):
    places = []
    for key in jax.random.split(jax.random.key(8), 200):
        mixed, _ = compiled("ricap in the middle")(key, coded, targets)
        (h, w), crops, partners = read_ricap(np.asarray(mixed))
        room = np.array([[HEIGHT - h, WIDTH - w], [HEIGHT - h, w], [h, WIDTH - w], [h, w]])
        places.append(np.array(crops) / room)
        assert len({tuple(partner) for partner in partners}) == 4
    places = np.array(places)  # 0: first offset that fits, 1: last one
    assert (places.min((0, 1)) == 0).all()
    assert (places.max((0, 1)) == 1).all()
    assert (np.abs(places.mean(0) - 0.5) < 5 * places.std(0) / np.sqrt(len(places))).all()
    correlations = np.corrcoef(places.reshape(len(places), -1).T) - np.eye(8)
    assert np.abs(correlations).max() < 5 / np.sqrt(len(places))


def find_corner(mixed):
    """Where the source of the pixels jumps in each direction; 0 where it never does.

    Neighbours inside of a crop differ by one pixel in every image of the batch.
    """
    step_y = np.diff(mixed, axis=1) != np.array([0, 1, 0])
    step_x = np.diff(mixed, axis=2) != np.array([0, 0, 1])
    rows, columns = step_y.any((0, 2, 3)), step_x.any((0, 1, 3))
    assert rows.sum() <= 1
    assert columns.sum() <= 1
    return (np.argmax(rows) + 1) * rows.any(), (np.argmax(columns) + 1) * columns.any()
