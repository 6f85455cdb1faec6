"""What holds for every operation: signatures and transformations."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax import augment
from cifar_jax.config import AugmentConfig

CONFIG = AugmentConfig(hole_min=2, hole_max=5)
PIXEL_OPERATIONS = {
    "horizontal_flip": {},
    "random_crop": {"padding": 5, "border": "reflect101"},
    "shift_scale_rotate": {"rotate": 30.0, "border": "reflect101"},
    "brightness_contrast": {},
    "hue_saturation_value": {},
    "coarse_dropout": {"hole_min": 2, "hole_max": 5},
}
MIXES = {
    "mixup": {"alpha": 1.0},
    "cutmix": {"alpha": 1.0, "per_image": True},
    "ricap": {"beta": 0.3},
}
CONFIGURED = ("augment_pixels", "mix")
OFF = ("random_crop", "probability")  # the original's recipe does without
KEYS = jax.random.split(jax.random.key(5), 3)


def operation(name):
    """A function of key and images; mixes get distinct labels, and both results are returned."""
    options = {"config": CONFIG} if name in CONFIGURED else {**PIXEL_OPERATIONS, **MIXES}[name]
    function = functools.partial(getattr(augment, name), **options)
    if name in MIXES or name == "mix":
        return lambda key, images: function(key, images, jnp.eye(len(images)))[:2]
    return function


@functools.cache
def compiled(name):
    """Compiled once, also for all values of the probability."""
    return jax.jit(operation(name))


EVERY = pytest.mark.parametrize("name", [*PIXEL_OPERATIONS, *MIXES, *CONFIGURED])
EVERY_PIXEL = pytest.mark.parametrize("name", PIXEL_OPERATIONS)


def check_close(found, expected, atol):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(x, np.float32), np.asarray(y, np.float32), atol=atol)


@pytest.mark.parametrize("name", [*PIXEL_OPERATIONS, *MIXES])
def test_jit_equals_eager(key, images, name):
    check_close(compiled(name)(key, images), operation(name)(key, images), atol=2e-5)


@pytest.mark.parametrize("name", [*PIXEL_OPERATIONS, "mix"])
def test_vmap_over_keys_equals_a_loop(images, name):
    mapped = jax.jit(jax.vmap(operation(name), in_axes=(0, None)))(KEYS, images)
    looped = [compiled(name)(key, images) for key in KEYS]
    check_close(mapped, jax.tree.map(lambda *parts: jnp.stack(parts), *looped), atol=2e-5)


@EVERY
def test_the_key_alone_decides(images, name):
    run = compiled(name)
    first, again, other = (run(key, images) for key in (KEYS[0], KEYS[0], KEYS[1]))
    check_close(first, again, atol=0)
    assert any((x != y).any() for x, y in zip(*map(jax.tree.leaves, (first, other)), strict=True))


@EVERY_PIXEL
def test_bfloat16_is_close_to_float32(key, images, name):
    narrow = images.astype(jnp.bfloat16)
    result = compiled(name)(key, narrow, probability=0.7)
    assert result.dtype == jnp.bfloat16
    wide = compiled(name)(key, narrow.astype(jnp.float32), probability=0.7)
    check_close(result, wide, atol=2**-8)


@EVERY_PIXEL
def test_images_are_independent(key, images, name):
    """Another image at place 3 changes nothing else; equal images are changed differently."""
    run = functools.partial(compiled(name), probability=0.5)
    before, after = run(key, images), run(key, images.at[3].set(0.5))
    others = np.arange(len(images)) != 3
    np.testing.assert_array_equal(before[others], after[others])
    equal = run(key, jnp.broadcast_to(images[:1], images.shape))
    assert len({np.asarray(image).tobytes() for image in equal}) > 1


@EVERY_PIXEL
def test_probability_zero_is_bitwise_identity_and_one_is_always(key, images, name):
    never, always = (compiled(name)(key, images, probability=p) for p in (0.0, 1.0))
    np.testing.assert_array_equal(never, images)
    assert (always != images).any((1, 2, 3)).all()


def test_keys_come_first_and_options_are_named():
    for name in [*PIXEL_OPERATIONS, *MIXES]:
        parameters = list(inspect.signature(getattr(augment, name)).parameters.values())
        data = ["key", "images"] + ["targets"] * (name in MIXES)
        assert [p.name for p in parameters[: len(data)]] == data
        assert all(p.kind is p.KEYWORD_ONLY for p in parameters[len(data) :])
        assert ("probability" in {p.name for p in parameters}) == (name in PIXEL_OPERATIONS)
    for name in [name for name in augment.__all__ if name.startswith("draw_")]:
        assert next(iter(inspect.signature(getattr(augment, name)).parameters)) == "key"
    for name in ("affine", "adjust_brightness_contrast", "shift_hsv", "normalize"):
        first, *rest = inspect.signature(getattr(augment, name)).parameters.values()
        assert first.name == "images"
        assert all(p.kind is p.KEYWORD_ONLY for p in rest)


def test_defaults_are_those_of_the_config():
    config = AugmentConfig()
    for name in PIXEL_OPERATIONS:
        for option, parameter in inspect.signature(getattr(augment, name)).parameters.items():
            field = {"probability": {"horizontal_flip": "flip"}.get(name, name)}.get(option, option)
            if option not in ("key", "images") and (name, option) != OFF:
                assert parameter.default == getattr(config, field), (name, option)
