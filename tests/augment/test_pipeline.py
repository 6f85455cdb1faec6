import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_jax import augment
from cifar_jax.augment import MIX_NAMES, augment_pixels, draw_kind, mix
from cifar_jax.config import AugmentConfig

PIXELS = (
    "flip",
    "random_crop",
    "shift_scale_rotate",
    "brightness_contrast",
    "hue_saturation_value",
)
PIXELS += ("coarse_dropout",)
NO_PIXELS = AugmentConfig(**dict.fromkeys(PIXELS, 0.0))
NO_MIX = AugmentConfig(ricap=0.0, mixup=0.0, cutmix=0.0)


def only(**fields):
    return dataclasses.replace(NO_PIXELS, **fields)


def test_probability_zero_costs_nothing(key, images):
    jaxpr = jax.make_jaxpr(lambda key, images: augment_pixels(key, images, NO_PIXELS))(key, images)
    assert jaxpr.jaxpr.outvars == jaxpr.jaxpr.invars[1:]
    flip = jax.make_jaxpr(lambda key, images: augment_pixels(key, images, only(flip=0.5)))
    assert "gather" not in str(flip(key, images))


def test_order_is_that_of_the_original(key, images):
    """One at a time, each with what it drew in the whole, gives the whole."""
    config = AugmentConfig(**dict.fromkeys(PIXELS, 1.0), hole_min=2, hole_max=5)
    whole = jax.jit(lambda key, images: augment_pixels(key, images, config))(key, images)
    alone = images
    for name in PIXELS:
        step = only(**{name: 1.0}, hole_min=2, hole_max=5)
        changed = jax.jit(partial(augment_pixels, config=step))(key, alone)
        assert (changed != alone).any((1, 2, 3)).all(), name
        alone = changed
    np.testing.assert_allclose(whole, alone, atol=1e-5)


def test_options_reach_the_operations(key, images):
    """Each field of the config changes the result of its operation."""
    ranges = {
        "shift_scale_rotate": {"shift": 0.3, "scale": 0.3, "rotate": 40.0, "border": "reflect101"},
        "random_crop": {"padding": 6, "border": "reflect101"},
        "brightness_contrast": {"brightness": 0.4, "contrast": 0.4},
        "hue_saturation_value": {"hue": 60.0, "saturation": 90.0, "value": 60.0},
        "coarse_dropout": {"hole_min": 7, "hole_max": 12},
    }
    for name, options in ranges.items():
        config = only(**{name: 1.0})
        results = [augment_pixels(key, images, config)]
        for option, value in options.items():
            changed = dataclasses.replace(config, **{option: value})
            results.append(augment_pixels(key, images, changed))
        for i, first in enumerate(results):
            for second in results[i + 1 :]:
                assert (first != second).any(), name


def test_flips_that_alternate_are_left_to_the_chunk(key, images):
    config = dataclasses.replace(only(flip=0.5), alternating_flip=True)
    np.testing.assert_array_equal(augment_pixels(key, images, config), images)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_result_stays_in_range_and_dtype(key, images, dtype):
    run = jax.jit(lambda key, images: augment_pixels(key, images, AugmentConfig()))
    changed = run(key, images.astype(dtype))
    assert (changed.shape, changed.dtype) == (images.shape, dtype)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert 0.3 < changed.mean() < 0.6


@pytest.mark.parametrize(
    "change",
    [
        lambda key, images: augment_pixels(key, images, AugmentConfig()),
        lambda key, images: augment.normalize(images, mean=(0.5,) * 3, std=(0.5,) * 3),
        lambda key, images: augment.brightness_contrast(key, images),
        lambda key, images: augment.hue_saturation_value(key, images),
        lambda key, images: augment.shift_scale_rotate(key, images),
        lambda key, images: augment.mixup(key, images, jnp.eye(len(images)), alpha=1.0),
        lambda key, images: augment.cutmix(key, images, jnp.eye(len(images)), alpha=1.0),
        lambda key, images: augment.ricap(key, images, jnp.eye(len(images)), beta=1.0),
    ],
)
def test_bytes_are_refused(key, images, change):
    with pytest.raises(TypeError, match=r"^images must be floating, not uint8$"):
        change(key, images.astype(jnp.uint8))


@pytest.mark.parametrize("name", ["mixup", "cutmix", "ricap"])
def test_labels_that_could_not_be_shared_are_refused(key, images, name):
    """Of integers a mix would leave nothing."""
    option = {"beta": 1.0} if name == "ricap" else {"alpha": 1.0}
    targets = jnp.eye(len(images), dtype=jnp.int32)
    with pytest.raises(TypeError, match=r"^targets must be floating, not int32$"):
        getattr(augment, name)(key, images, targets, **option)


def test_kinds_have_the_probabilities_of_the_config():
    keys = jax.random.split(jax.random.key(0), 100_000)
    configs = {
        (0.2, 0.2, 0.3, 0.3): AugmentConfig(),
        (0.0, 0.0, 1.0, 0.0): AugmentConfig(ricap=0.0, mixup=1.0, cutmix=0.0),
        (0.0, 0.7, 0.1, 0.2): AugmentConfig(ricap=0.7, mixup=0.1, cutmix=0.2),
        (0.5, 0.0, 0.0, 0.5): AugmentConfig(ricap=0.0, mixup=0.0, cutmix=0.5),
        (1.0, 0.0, 0.0, 0.0): NO_MIX,
    }
    for probabilities, config in configs.items():
        kinds = jax.jit(jax.vmap(lambda key, config=config: draw_kind(key, config)))(keys)
        assert kinds.dtype == jnp.int32
        shares = np.bincount(kinds, minlength=4) / len(keys)
        sigma = np.sqrt(np.array(probabilities) * (1 - np.array(probabilities)) / len(keys))
        assert (np.abs(shares - probabilities) <= 5 * sigma).all()


@pytest.mark.parametrize("per_image", [False, True])
def test_each_mix_is_its_function(images, targets, per_image):
    """With the second half of the key; alpha and beta come from the config."""
    config = AugmentConfig(
        ricap_beta=0.7, mixup_alpha=0.5, cutmix_alpha=2.0, mix_per_image=per_image
    )
    functions = {
        "none": lambda key, images, targets: (images, targets),
        "ricap": partial(augment.ricap, beta=0.7),
        "mixup": partial(augment.mixup, alpha=0.5, per_image=per_image),
        "cutmix": partial(augment.cutmix, alpha=2.0, per_image=per_image),
    }
    run, seen = jax.jit(partial(mix, config=config)), set()
    for seed in range(20):
        key = jax.random.key(seed)
        mixed, labels, kind = run(key, images, targets)
        assert (kind.dtype, kind.shape) == (jnp.int32, ())
        name = MIX_NAMES[kind]
        if name not in seen:
            expected = jax.jit(functions[name])(jax.random.split(key)[1], images, targets)
            np.testing.assert_allclose(mixed, expected[0], atol=1e-6)
            np.testing.assert_allclose(labels, expected[1], atol=1e-6)
            assert ((mixed == images).all() and (labels == targets).all()) == (name == "none")
        seen.add(name)
    assert seen == set(MIX_NAMES)


def test_only_the_drawn_mix_is_computed(key, images, targets):
    jaxpr = jax.make_jaxpr(partial(mix, config=AugmentConfig()))(key, images, targets)
    (switch,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "cond"]
    assert len(switch.params["branches"]) == len(MIX_NAMES)


@pytest.mark.parametrize("name", MIX_NAMES[1:])
def test_a_mix_of_probability_zero_is_not_compiled(key, images, targets, name):
    """Side by side, all that are compiled are computed."""
    config = dataclasses.replace(NO_MIX, **{name: 0.5})
    jaxpr = jax.make_jaxpr(partial(mix, config=config))(key, images, targets)
    (switch,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "cond"]
    computing = [bool(branch.jaxpr.eqns) for branch in switch.params["branches"]]
    assert computing == [other == name for other in MIX_NAMES]


def test_no_mix_costs_nothing(key, images, targets):
    mixed, labels, kind = mix(key, images, targets, NO_MIX)
    assert mixed is images
    assert labels is targets
    assert kind == 0
