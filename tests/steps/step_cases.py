"""What tests of steps share: small images, and configs for them."""

import dataclasses

import jax

from cifar_jax.config import AugmentConfig, Config, OptimConfig, TrainConfig

SIDE, COUNT, BATCH, CLASSES = 16, 50, 8, 10
STEPS = COUNT // BATCH  # of an epoch
CONFIG = Config(
    augment=AugmentConfig(hole_min=2, hole_max=4),
    optim=OptimConfig(learning_rate=0.1, warmup=0.2, ema_decay=0.9),
    train=TrainConfig(epochs=3, batch_size=BATCH),
)
OFF = AugmentConfig(
    flip=0.0,
    shift_scale_rotate=0.0,
    brightness_contrast=0.0,
    hue_saturation_value=0.0,
    coarse_dropout=0.0,
    ricap=0.0,
    mixup=0.0,
    cutmix=0.0,
)
LIGHT = dataclasses.replace(CONFIG, augment=dataclasses.replace(OFF, flip=0.5))  # compiles quickly
MIXED = dataclasses.replace(LIGHT, augment=dataclasses.replace(LIGHT.augment, cutmix=0.6))
KEY = jax.random.key(0)


def first_batch(images):
    return jax.tree.map(lambda x: x[:BATCH], images)
