from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax import tta


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(0), (3, 16, 16, 3), minval=0.3, maxval=0.7)


@pytest.mark.parametrize(("mode", "count"), [("none", 1), ("flip", 2), ("full", 8)])
def test_views_are_images(images, mode, count):
    views = tta.views(images, mode)
    assert len(views) == tta.VIEWS[mode] == count
    assert (views[0] == images).all()
    for view in views:
        assert view.shape == images.shape
        assert view.dtype == images.dtype
        assert (view >= 0).all()
        assert (view <= 1).all()


def test_modes_that_are_none():
    assert tta.most_views(("flip", "full", "none")) == "full"
    for modes, message in (
        ((), "at least one"),
        (("none", "Flip"), "of none, flip, full, not 'Fl"),
    ):
        with pytest.raises(ValueError, match=message):
            tta.most_views(modes)  # type: ignore[arg-type]


def test_the_views_of_a_mode_are_the_first_of_the_next(images):
    most = tta.views(images, "full")
    for mode in ("none", "flip"):
        for view, same in zip(tta.views(images, mode), most, strict=False):
            assert (view == same).all()


def test_mirrored(images):
    assert (tta.views(images, "flip")[1] == images[:, :, ::-1]).all()


def test_views_of_black_and_white_stay_in_range():
    images = jax.random.bernoulli(jax.random.key(0), 0.5, (3, 16, 16, 3)).astype(jnp.float32)
    for view in tta.views(images, "full"):
        assert view.min() >= 0
        assert view.max() <= 1


@pytest.mark.parametrize(("border", "corner"), [("constant", 0.0), ("reflect101", 1.0)])
def test_what_a_rotation_sees_outside(border, corner):
    for view in tta.views(jnp.ones((1, 16, 16, 3)), "full", border=border)[2:4]:
        np.testing.assert_allclose(view[0, 0, 0], corner, atol=1e-5)


def test_rotations_are_mirror_images_of_each_other(images):
    left, right = tta.views(images, "full")[2:4]
    mirrored = tta.views(images[:, :, ::-1], "full")[2][:, :, ::-1]
    np.testing.assert_allclose(right, mirrored, atol=1e-5)
    assert jnp.abs(left - right).max() > 0.05


def test_left_is_counter_clockwise():
    image = jnp.zeros((1, 31, 31, 1)).at[0, 15, 25, 0].set(1.0)  # right of the centre
    rows = jnp.arange(31.0).reshape(1, -1, 1, 1)
    rotated = tta.views(jnp.tile(image, (1, 1, 1, 3)), "full")[2][..., :1]
    height = 15 - float((rotated * rows).sum() / rotated.sum())
    np.testing.assert_allclose(height, 10 * np.sin(np.deg2rad(15)), atol=0.1)


def test_brightness_and_contrast_by_formula(images):
    darker, brighter, flatter, steeper = tta.views(images, "full")[4:]
    x = np.asarray(images, np.float64)
    grey = (x @ [0.299, 0.587, 0.114]).mean(axis=(1, 2)).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(darker, 0.8 * x, rtol=1e-5)
    np.testing.assert_allclose(brighter, 1.2 * x, rtol=1e-5)
    np.testing.assert_allclose(flatter, grey + 0.8 * (x - grey), rtol=1e-5)
    np.testing.assert_allclose(steeper, grey + 1.2 * (x - grey), rtol=1e-5)


def test_white_stays_white():
    for view in tta.views(jnp.ones((1, 4, 4, 3)), "flip"):
        assert (view == 1).all()
    assert (tta.views(jnp.ones((1, 4, 4, 3)), "full")[5] == 1).all()


def test_jit_equals_eager(images):
    eager = tta.views(images, "full")
    jitted = jax.jit(lambda x: tta.views(x, "full"))(images)
    for a, b in zip(eager, jitted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_another_mode(images):
    mode: Any = "Flip"
    with pytest.raises(ValueError, match="mode must be one of none, flip, full, not 'Flip'"):
        tta.views(images, mode)
