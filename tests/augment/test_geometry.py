from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax.augment import (
    affine,
    alternating_flip,
    horizontal_flip,
    random_crop,
    shift_scale_rotate,
)

BORDERS = ("constant", "reflect101")
IDENTITY = {"angle": 0.0, "scale_x": 1.0, "scale_y": 1.0, "shift_x": 0.0, "shift_y": 0.0}


compiled_affine = jax.jit(affine, static_argnames="border")


def warp(images, border: Any = "constant", **parameters):
    """Affine with the same parameters for all images, identity where not given."""
    values = {
        name: jnp.broadcast_to(jnp.asarray(parameters.get(name, default), jnp.float32), len(images))
        for name, default in IDENTITY.items()
    }
    return np.asarray(compiled_affine(jnp.asarray(images), border=border, **values))


def warp_by_loops(image, border, *, angle, scale_x, scale_y, shift_x, shift_y):
    """The forward matrix, inverted, and four neighbours a pixel; float64."""
    height, width, _ = image.shape
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    to_center = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    shift = np.array([[1, 0, shift_x * width], [0, 1, shift_y * height], [0, 0, 1]])
    rotate = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    forward = to_center @ shift @ rotate @ np.diag([scale_x, scale_y, 1]) @ np.linalg.inv(to_center)
    backward = np.linalg.inv(forward)
    if border == "reflect101":
        padded = np.pad(image, ((64, 64), (64, 64), (0, 0)), "reflect")
    else:
        padded = np.pad(image, ((64, 64), (64, 64), (0, 0)))
    out = np.zeros(image.shape)
    for y in range(height):
        for x in range(width):
            source_x, source_y, _ = backward @ [x, y, 1]
            left, top = int(np.floor(source_x)), int(np.floor(source_y))
            for dy in (0, 1):
                for dx in (0, 1):
                    weight = (1 - abs(source_x - left - dx)) * (1 - abs(source_y - top - dy))
                    out[y, x] += weight * padded[64 + top + dy, 64 + left + dx]
    return out


def test_flip_mirrors_left_to_right(key, images):
    flipped = horizontal_flip(key, images, probability=1.0)
    np.testing.assert_array_equal(flipped, np.asarray(images)[:, :, ::-1])


def test_flip_takes_half_of_the_images(key):
    ramps = jnp.broadcast_to(jnp.arange(4.0).reshape(1, 1, 4, 1), (4000, 1, 4, 1))
    flipped = np.asarray(horizontal_flip(key, ramps, probability=0.5))[:, 0, 0, 0] == 3
    assert abs(flipped.mean() - 0.5) < 5 * 0.5 / np.sqrt(4000)


def test_two_epochs_show_both_sides_of_each_image(key):
    ramps = jnp.broadcast_to(jnp.arange(4).reshape(1, 1, 4, 1), (4000, 1, 4, 1))
    indices = jnp.arange(4000)
    run = jax.jit(alternating_flip)
    epochs = [np.asarray(run(key, ramps, indices, epoch))[:, 0, 0, 0] for epoch in range(4)]
    np.testing.assert_array_equal(epochs[0] + epochs[1], 3)
    np.testing.assert_array_equal(epochs[:2], epochs[2:])
    assert abs((epochs[0] == 3).mean() - 0.5) < 5 * 0.5 / np.sqrt(4000)


def test_an_alternating_flip_depends_on_the_number_not_on_the_place(key, images):
    indices = jnp.arange(7, 7 + len(images))
    shuffled = jax.random.permutation(key, len(images))
    whole = alternating_flip(key, images, indices, 5)
    again = alternating_flip(key, images[shuffled], indices[shuffled], 5)
    np.testing.assert_array_equal(again, whole[shuffled])
    assert whole.dtype == images.dtype


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_identity_is_exact(images, border, dtype):
    images = images.astype(dtype)
    np.testing.assert_array_equal(warp(images, border), images)


def test_positive_shift_moves_right_and_down(images):
    images = np.asarray(images)
    expected = np.zeros_like(images)
    expected[:, 2:, 3:] = images[:, :-2, :-3]
    shifted = warp(images, shift_x=3 / 18, shift_y=2 / 12)
    np.testing.assert_allclose(shifted, expected, atol=1e-5)


def test_shift_reflects_about_the_outermost_pixel(images):
    images = np.asarray(images)
    shifted = warp(images, "reflect101", shift_x=3 / 18)
    np.testing.assert_allclose(shifted[:, :, :3], images[:, :, 3:0:-1], atol=1e-5)


def test_positive_angle_is_counter_clockwise(images):
    square = np.asarray(images)[:, :, :12]
    np.testing.assert_allclose(warp(square, angle=90), np.rot90(square, axes=(1, 2)), atol=1e-5)


def test_scale_above_one_enlarges_about_the_centre():
    ramp = np.broadcast_to(np.arange(9, dtype=np.float32).reshape(1, 1, 9, 1), (1, 9, 9, 1))
    expected = 4 + (np.arange(9) - 4) / 2
    np.testing.assert_allclose(warp(ramp, scale_x=2)[0, 4, :, 0], expected, atol=1e-6)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("size", [1.0, 6.0])
def test_affine_against_loops(images, border, size):
    """At size 6, parameters go far beyond any sensible use: up to 90 degrees and a shift of .6."""
    rng = np.random.default_rng(3)
    parameters = {
        "angle": rng.uniform(-15, 15, 4) * size,
        "scale_x": 1 + rng.uniform(-0.1, 0.1, 4) * size,
        "scale_y": 1 + rng.uniform(-0.1, 0.1, 4) * size,
        "shift_x": rng.uniform(-0.1, 0.1, 4) * size,
        "shift_y": rng.uniform(-0.1, 0.1, 4) * size,
    }
    images = np.asarray(images[:4])
    expected = [
        warp_by_loops(image, border, **{name: values[i] for name, values in parameters.items()})
        for i, image in enumerate(images)
    ]
    np.testing.assert_allclose(warp(images, border, **parameters), expected, atol=2e-5)


def warp_reference(reference, border):
    images = reference["images"].astype(np.float32) / 255
    return warp(
        images,
        border,
        angle=reference["angle"],
        scale_x=reference["scale_x"],
        scale_y=reference["scale_y"],
        shift_x=reference["shift_x_pixels"] / 32,
        shift_y=reference["shift_y_pixels"] / 32,
    )


@pytest.mark.parametrize("border", BORDERS)
def test_affine_against_opencv_on_floats(reference, border):
    """To 2e-5, of which the stored 16 bits take 8e-6.

    OpenCV 5 interpolates in floating point. OpenCV 4 rounds positions to 1/32 pixel and differs
    by up to .02 on the same images, 6e-4 on average.
    """
    expected = reference[f"affine_{border}_float"] / 65535
    np.testing.assert_allclose(warp_reference(reference, border), expected, atol=2e-5)


def test_affine_against_opencv_on_bytes(reference):
    """To half a level: the rounding to 8 bits."""
    warped = 255 * warp_reference(reference, "constant")
    np.testing.assert_allclose(warped, reference["affine_constant_uint8"], atol=0.505)


def test_unknown_border_is_named(images):
    with pytest.raises(ValueError, match=r"'constant' or 'reflect101', not 'wrap'"):
        warp(images, "wrap")
    with pytest.raises(ValueError, match=r"must have sides of at least 2 pixels, not 1x8"):
        warp(images[:, :1, :8], "reflect101")


def read_parameters(key, count, **options):
    """Draw warps of an image of coordinates and read angle, scales and shifts off its centre."""
    y, x = np.mgrid[:32, :32].astype(np.float32)
    coordinates = jnp.broadcast_to(np.stack([x, y], -1)[None], (count, 32, 32, 2))
    run = jax.jit(lambda key, images: shift_scale_rotate(key, images, **options))
    center = np.asarray(run(key, coordinates), np.float64)[:, 15:17, 15:17]
    by_x = (center[:, :, 1] - center[:, :, 0]).mean(1)  # derivatives of the source position
    by_y = (center[:, 1] - center[:, 0]).mean(1)
    inverse = np.stack([by_x, by_y], -1)
    forward = np.linalg.inv(inverse)
    shift = -np.einsum("nij,nj->ni", forward, center.mean((1, 2)) - 15.5) / 32
    scale = 1 / np.linalg.norm(inverse, axis=2)
    angle = np.rad2deg(np.arctan2(-inverse[:, 0, 1], inverse[:, 0, 0]))
    return {
        "angle": angle,
        "scale_x": scale[:, 0],
        "scale_y": scale[:, 1],
        "shift_x": shift[:, 0],
        "shift_y": shift[:, 1],
    }


def test_parameters_are_uniform_and_independent(key):
    count = 2000
    parameters = read_parameters(key, count, shift=0.1, scale=0.2, rotate=15, probability=1.0)
    limits = {"angle": 15, "scale_x": 0.2, "scale_y": 0.2, "shift_x": 0.1, "shift_y": 0.1}
    for name, limit in limits.items():
        unit = (parameters[name] - IDENTITY[name]) / limit
        assert np.abs(unit).max() < 1.001, name
        assert np.abs(unit).max() > 0.98, name
        assert abs(unit.mean()) < 5 * np.sqrt(1 / 3 / count), name
        assert abs(unit.var() - 1 / 3) < 5 * np.sqrt(4 / 45 / count), name
    correlations = np.corrcoef(list(parameters.values())) - np.eye(5)
    assert np.abs(correlations).max() < 5 / np.sqrt(count)


@pytest.mark.parametrize("border", ["constant", "reflect101"])
def test_untouched_images_come_back_bit_for_bit(key, border):
    images = jax.random.randint(key, (1000, 6, 6, 3), 0, 256).astype(jnp.float32) / 255.0
    warp = partial(shift_scale_rotate, border=border, probability=0.5)
    warped = jax.jit(warp)(key, images)
    same = np.asarray((warped == images).all((1, 2, 3)))
    assert abs(same.mean() - 0.5) < 5 * 0.5 / np.sqrt(1000)


@pytest.mark.parametrize(("border", "mode"), [("constant", "constant"), ("reflect101", "reflect")])
def test_a_crop_is_a_window_of_the_padded_image(key, images, border, mode):
    cropped = np.asarray(jax.jit(partial(random_crop, padding=2, border=border))(key, images))
    padded = np.pad(np.asarray(images), [(0, 0), (2, 2), (2, 2), (0, 0)], mode)
    for image, around in zip(cropped, padded, strict=True):
        windows = [around[i : i + 12, j : j + 18] for i in range(5) for j in range(5)]
        assert sum(np.array_equal(image, window) for window in windows) == 1


def test_all_windows_are_drawn_equally_often(key):
    count = 8100
    rows, columns = np.mgrid[:5, :5].astype(np.float32)
    coordinates = np.broadcast_to(np.stack([rows, columns], -1)[None], (count, 5, 5, 2))
    run = jax.jit(partial(random_crop, padding=2, border="reflect101"))
    center = np.asarray(run(key, jnp.asarray(coordinates)))[:, 2, 2].astype(int)
    found = np.bincount(center[:, 0] * 5 + center[:, 1], minlength=25)
    expected = count / 25
    assert np.abs(found - expected).max() < 5 * np.sqrt(expected)


def test_a_crop_has_a_probability(key):
    images = jax.random.uniform(key, (1000, 6, 6, 3))
    cropped = jax.jit(partial(random_crop, padding=5, probability=0.5))(key, images)
    same = np.asarray((cropped == images).all((1, 2, 3)))
    expected = 0.5 + 0.5 / 11**2
    assert abs(same.mean() - expected) < 5 * 0.5 / np.sqrt(1000)


def test_a_crop_refuses_another_border(key, images):
    with pytest.raises(ValueError, match="border must be 'constant' or 'reflect101', not 'wrap'"):
        random_crop(key, images, border="wrap")  # pyright: ignore[reportArgumentType]
