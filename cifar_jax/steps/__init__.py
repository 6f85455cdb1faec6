"""One training step, a chunk of them, and one evaluation step: pure functions to be jitted.

uint8 images go in; everything else happens on the device.
"""

from cifar_jax.steps.batch import Batch, augmented_batch, to_float
from cifar_jax.steps.evaluate import EvalStep, make_eval_step
from cifar_jax.steps.train import (
    ApplyFn,
    Augmentation,
    Metrics,
    Teacher,
    TrainStep,
    make_train_chunk,
    make_train_step,
)

__all__ = [
    "ApplyFn",
    "Augmentation",
    "Batch",
    "EvalStep",
    "Metrics",
    "Teacher",
    "TrainStep",
    "augmented_batch",
    "make_eval_step",
    "make_train_chunk",
    "make_train_step",
    "to_float",
]
