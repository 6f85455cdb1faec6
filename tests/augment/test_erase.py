import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax.augment import Box, coarse_dropout, draw_holes


def test_mask_against_loops():
    edges = np.array([(0, 4, 0, 5), (1, 3, 2, 4), (2, 2, 0, 5), (3, 4, 4, 5)], np.int32)
    box = Box(*jnp.asarray(edges.T))
    mask = np.asarray(box.mask(4, 5))
    for i, (top, bottom, left, right) in enumerate(edges):
        expected = np.zeros((4, 5, 1), bool)
        expected[top:bottom, left:right] = True
        np.testing.assert_array_equal(mask[i], expected)
    np.testing.assert_array_equal(box.area, mask.sum((1, 2, 3)))


def test_holes_are_uniform_and_fully_inside(key):
    count, height, width = 50_000, 10, 14
    holes = draw_holes(key, count, height=height, width=width, hole_min=4, hole_max=8)
    top, bottom, left, right = (np.asarray(edge) for edge in holes)
    for start, end, side in ((top, bottom, height), (left, right, width)):
        for size in range(4, 9):
            starts = start[end - start == size]
            check_equally_likely(starts, side - size + 1)
        check_equally_likely(end - start - 4, 5)
    sizes = np.corrcoef(bottom - top, right - left)[0, 1]
    positions = np.corrcoef(top, left)[0, 1]
    assert max(abs(sizes), abs(positions)) < 5 / np.sqrt(count)


def check_equally_likely(values, kinds):
    """Values are 0 .. kinds - 1, each as often as the others within five sigma."""
    counts = np.bincount(values)
    assert len(counts) == kinds
    sigma = np.sqrt(len(values) / kinds * (1 - 1 / kinds))
    assert np.abs(counts - len(values) / kinds).max() < 5 * sigma


def test_one_rectangle_is_zero_and_the_rest_untouched(key):
    images = jax.random.uniform(key, (64, 12, 18, 3), minval=0.5)
    options = {"hole_min": 2, "hole_max": 5, "probability": 1.0}
    erased = np.asarray(jax.jit(lambda *args: coarse_dropout(*args, **options))(key, images))
    sides = set()
    for before, after in zip(np.asarray(images), erased, strict=True):
        zero = (after == 0).all(-1)
        rows, columns = np.flatnonzero(zero.any(1)), np.flatnonzero(zero.any(0))
        assert zero.sum() == len(rows) * len(columns)
        assert np.ptp(rows) + 1 == len(rows)
        assert np.ptp(columns) + 1 == len(columns)
        sides |= {len(rows), len(columns)}
        np.testing.assert_array_equal(after[~zero], before[~zero])
    assert sides == {2, 3, 4, 5}


def test_probability_is_that_of_an_image(key):
    erased = coarse_dropout(key, jnp.ones((4000, 8, 8, 1)), probability=0.3)
    share = np.asarray((erased == 0).any((1, 2, 3))).mean()
    assert abs(share - 0.3) < 5 * np.sqrt(0.21 / 4000)


def test_a_hole_of_the_whole_image_fits(key):
    assert not coarse_dropout(
        key, jnp.ones((2, 8, 8, 1)), hole_min=8, hole_max=8, probability=1.0
    ).any()


@pytest.mark.parametrize(("hole_min", "hole_max"), [(0, 4), (5, 4), (4, 13)])
def test_impossible_holes_are_named(key, images, hole_min, hole_max):
    with pytest.raises(ValueError, match=f"hole_min={hole_min}, hole_max={hole_max}"):
        coarse_dropout(key, images, hole_min=hole_min, hole_max=hole_max)
