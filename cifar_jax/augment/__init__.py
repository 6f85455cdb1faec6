"""Augmentation on the device: pure functions of a key and a batch of images."""

from cifar_jax.augment.color import (
    adjust_brightness_contrast,
    brightness_contrast,
    hsv_to_rgb,
    hue_saturation_value,
    normalize,
    rgb_to_hsv,
    shift_hsv,
)
from cifar_jax.augment.erase import Box, coarse_dropout, draw_holes
from cifar_jax.augment.geometry import (
    affine,
    alternating_flip,
    horizontal_flip,
    random_crop,
    shift_scale_rotate,
)
from cifar_jax.augment.mixing import (
    cutmix,
    draw_cutmix_box,
    draw_lambda,
    draw_ricap_corner,
    mixup,
    ricap,
)
from cifar_jax.augment.pipeline import MIX_NAMES, augment_pixels, draw_kind, mix

__all__ = [
    "MIX_NAMES",
    "Box",
    "adjust_brightness_contrast",
    "affine",
    "alternating_flip",
    "augment_pixels",
    "brightness_contrast",
    "coarse_dropout",
    "cutmix",
    "draw_cutmix_box",
    "draw_holes",
    "draw_kind",
    "draw_lambda",
    "draw_ricap_corner",
    "horizontal_flip",
    "hsv_to_rgb",
    "hue_saturation_value",
    "mix",
    "mixup",
    "normalize",
    "random_crop",
    "rgb_to_hsv",
    "ricap",
    "shift_hsv",
    "shift_scale_rotate",
]
