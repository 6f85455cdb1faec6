import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax.augment import (
    adjust_brightness_contrast,
    brightness_contrast,
    hsv_to_rgb,
    hue_saturation_value,
    normalize,
    rgb_to_hsv,
    shift_hsv,
)


def vector(*values):
    return jnp.array(values, jnp.float32)


def pixel(*rgb):
    return jnp.array(rgb, jnp.float32).reshape(1, 1, 1, 3)


def shift_pixel(rgb, hue=0.0, saturation=0.0, value=0.0):
    shifts = {"hue": vector(hue), "saturation": vector(saturation), "value": vector(value)}
    return np.asarray(shift_hsv(pixel(*rgb), **shifts))[0, 0, 0]


def test_brightness_and_contrast_formula(images):
    brightness, contrast = np.linspace(-0.2, 0.2, 16), np.linspace(0.3, -0.3, 16)
    changed = adjust_brightness_contrast(
        images, brightness=vector(*brightness), contrast=vector(*contrast)
    )
    for i, image in enumerate(np.asarray(images)):
        expected = np.clip(image * (1 + contrast[i]) + brightness[i], 0, 1)
        np.testing.assert_allclose(changed[i], expected, atol=1e-6)


def test_brightness_and_contrast_against_albumentations(reference):
    """To one level: Albumentations truncates to 8 bits."""
    changed = adjust_brightness_contrast(
        jnp.asarray(reference["images"], jnp.float32) / 255,
        brightness=vector(*reference["brightness"]),
        contrast=vector(*reference["contrast"]),
    )
    expected = reference["brightness_contrast_uint8"]
    np.testing.assert_allclose(255 * np.asarray(changed), expected, atol=1.0)


def test_brightness_and_contrast_are_uniform_and_independent(key):
    count = 4000
    levels = jnp.broadcast_to(vector(0.4, 0.6).reshape(1, 2, 1, 1), (count, 2, 1, 1))
    changed = brightness_contrast(key, levels, brightness=0.1, contrast=0.2, probability=1.0)
    low, high = np.asarray(changed, np.float64)[:, :, 0, 0].T
    contrast = (high - low) / 0.2 - 1
    brightness = low - 0.4 * (1 + contrast)
    check_uniform(np.stack([brightness / 0.1, contrast / 0.2]))


def check_uniform(draws):
    """Rows are independent and uniform in [-1, 1]."""
    count = draws.shape[1]
    assert np.abs(draws).max() < 1.001
    assert (np.abs(draws).max(1) > 0.99).all()
    assert np.abs(draws.mean(1)).max() < 5 * np.sqrt(1 / 3 / count)
    assert np.abs(draws.var(1) - 1 / 3).max() < 5 * np.sqrt(4 / 45 / count)
    assert np.abs(np.corrcoef(draws) - np.eye(len(draws))).max() < 5 / np.sqrt(count)


@pytest.mark.parametrize(
    ("rgb", "hsv"),
    [
        ((1, 0, 0), (0, 1, 1)),
        ((1, 1, 0), (1, 1, 1)),
        ((0, 0.5, 0), (2, 1, 0.5)),
        ((0, 0, 1), (4, 1, 1)),
        ((1, 0, 1), (-1, 1, 1)),
        ((0.5, 0.5, 0.5), (0, 0, 0.5)),
        ((0, 0, 0), (0, 0, 0)),
    ],
)
def test_hsv_of_named_colours(rgb, hsv):
    np.testing.assert_allclose(np.concatenate(rgb_to_hsv(vector(*rgb))), hsv, atol=1e-7)
    parts = [vector(part) for part in hsv]
    np.testing.assert_allclose(hsv_to_rgb(*parts), rgb, atol=1e-7)


def test_hsv_against_colorsys(images):
    h, s, v = (np.asarray(part)[..., 0].ravel() for part in rgb_to_hsv(images))
    expected = [colorsys.rgb_to_hsv(*rgb) for rgb in np.asarray(images, np.float64).reshape(-1, 3)]
    found = np.stack([h / 6 % 1, s, v], -1)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_hsv_round_trip(images):
    np.testing.assert_allclose(hsv_to_rgb(*rgb_to_hsv(images)), images, atol=1e-6)


def test_hue_is_in_units_of_two_degrees_and_wraps():
    red, green, blue = (1, 0, 0), (0, 1, 0), (0, 0, 1)
    np.testing.assert_allclose(shift_pixel(red, hue=60), green, atol=1e-6)
    np.testing.assert_allclose(shift_pixel(red, hue=-60), blue, atol=1e-6)
    np.testing.assert_allclose(shift_pixel(blue, hue=60), red, atol=1e-6)
    np.testing.assert_allclose(shift_pixel((0.2, 0.7, 0.4), hue=180), (0.2, 0.7, 0.4), atol=1e-6)


def test_saturation_and_value_are_in_units_of_one_255th_and_clip():
    np.testing.assert_allclose(shift_pixel((1, 0, 0), saturation=-51), (1, 0.2, 0.2), atol=1e-6)
    np.testing.assert_allclose(shift_pixel((0.8, 0, 0), saturation=51), (0.8, 0, 0), atol=1e-6)
    np.testing.assert_allclose(shift_pixel((0.5, 0, 0), value=51), (0.7, 0, 0), atol=1e-6)
    np.testing.assert_allclose(shift_pixel((0.9, 0, 0), value=51), (1, 0, 0), atol=1e-6)
    np.testing.assert_allclose(shift_pixel((0.1, 0, 0), value=-51), (0, 0, 0), atol=1e-6)


def test_gray_stays_gray():
    gray = shift_pixel((0.5, 0.5, 0.5), hue=20, saturation=30, value=51)
    np.testing.assert_allclose(gray, (0.7, 0.7, 0.7), atol=1e-6)


def test_shift_hsv_against_colorsys(images):
    hue, saturation, value = (np.linspace(-r, r, 16) for r in (20, 30, -20))
    shifts = {"hue": hue, "saturation": saturation, "value": value}
    changed = shift_hsv(images, **{name: vector(*values) for name, values in shifts.items()})
    for i, image in enumerate(np.asarray(images, np.float64)):
        for rgb, found in zip(image[0], np.asarray(changed)[i, 0], strict=True):
            h, s, v = colorsys.rgb_to_hsv(*rgb)
            s, v = np.clip([s + saturation[i] / 255, v + value[i] / 255], 0, 1)
            expected = colorsys.hsv_to_rgb((h + hue[i] / 180) % 1, s, v)
            np.testing.assert_allclose(found, expected, atol=3e-6)


def shift_reference(reference):
    images = jnp.asarray(reference["images"], jnp.float32) / 255
    names = ("hue", "saturation", "value")
    return np.asarray(shift_hsv(images, **{name: vector(*reference[name]) for name in names}))


def test_shift_hsv_against_opencv_on_floats(reference):
    """To 2e-5, of which the stored 16 bits take 8e-6."""
    expected = reference["hsv_float"] / 65535
    np.testing.assert_allclose(shift_reference(reference), expected, atol=2e-5)


def test_shift_hsv_against_albumentations_on_bytes(reference):
    """To 6 levels, .6 on average: Albumentations rounds hue to 2 degrees, up to 4 levels of RGB."""
    error = np.abs(255 * shift_reference(reference) - reference["hsv_uint8"])
    assert error.max() < 6.5
    assert error.mean() < 0.65


def test_hsv_shifts_are_uniform_and_independent(key):
    teal = jnp.broadcast_to(pixel(0.3, 0.6, 0.5), (4000, 1, 1, 3))
    options = {"hue": 10.0, "saturation": 30.0, "value": 20.0, "probability": 1.0}
    changed = hue_saturation_value(key, teal, **options)
    before, after = (np.stack(rgb_to_hsv(x))[..., 0, 0, 0] for x in (teal, changed))
    units = np.array([[30 / 10], [255 / 30], [255 / 20]])
    check_uniform((after - before) * units)


@pytest.mark.parametrize("operation", [brightness_contrast, hue_saturation_value])
def test_untouched_images_come_back_bit_for_bit(key, operation):
    images = jax.random.uniform(key, (1000, 2, 2, 3))
    changed = jax.jit(lambda *args: operation(*args, probability=0.3))(key, images)
    same = np.asarray((changed == images).all((1, 2, 3)))
    assert abs(same.mean() - 0.7) < 5 * np.sqrt(0.21 / 1000)


def test_normalize_formula(images):
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    expected = (np.asarray(images) - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(normalize(images, mean=mean, std=std), expected, atol=1e-6)
    arrays = normalize(images, mean=vector(*mean), std=vector(*std))
    np.testing.assert_array_equal(arrays, normalize(images, mean=mean, std=std))


def test_channels_are_as_many_as_numbers(images):
    with pytest.raises(ValueError, match=r"each of the images' 1 channels, not 3 and 3"):
        normalize(images[..., :1], mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(ValueError, match=r"each of the images' 3 channels, not 3 and 1"):
        normalize(images, mean=(0.5,) * 3, std=(0.5,))
    with pytest.raises(ValueError, match=r"images must have 3 channels, not 1"):
        rgb_to_hsv(images[..., :1])


def test_normalize_keeps_bfloat16(images):
    options = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
    images = images.astype(jnp.bfloat16)
    normal = normalize(images, **options)
    assert normal.dtype == jnp.bfloat16
    exact = normalize(images.astype(jnp.float32), **options)
    np.testing.assert_allclose(normal.astype(jnp.float32), exact, atol=2**-7)
