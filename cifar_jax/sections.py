"""The sections of a config: frozen dataclasses with units and ranges. Imports no jax.

Each field says its unit in the comment beside it, which ``--help`` prints, and its range in its
type, which the message about a value outside of it names.
"""

import dataclasses
from typing import Annotated, Any, Literal

from cifar_jax.ranges import (
    Count,
    CountOrOff,
    Fraction,
    NonNegative,
    Positive,
    Probability,
    Range,
    Seed,
)

IMAGE_SIDE = 32  # pixels
OPERATIONS = (  # of an augmentation, by the name of their probability
    *("flip", "random_crop", "shift_scale_rotate", "brightness_contrast", "hue_saturation_value"),
    *("coarse_dropout", "ricap", "mixup", "cutmix"),
)

Source = Literal[
    "auto", "cache", "tfds", "archive", "huggingface", "mirror", "download", "synthetic"
]


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images are trained on, and which are held out to choose by."""

    source: Source = "auto"  # where the data set comes from; auto: the first that works
    data_dir: str = "data"  # folder of the cached data set
    train_examples: CountOrOff = 0  # images to train on, stratified; 0: all that are not held out
    validation_examples: CountOrOff = 5_000  # training images held out to choose the epoch; 0: none
    split_seed: Seed = 0  # seed of the validation split and of the choice of train_examples


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network, a residual one; see models/."""

    architecture: Literal["separable", "preact", "wide"] = "separable"  # the last: dense, a teacher
    stem: Count = 20  # channels of the stem
    stages: tuple[Count, ...] = (20, 40, 80, 160)  # channels of each stage
    blocks: Count = 2  # residual blocks in each stage
    halvings: Annotated[int, Range(0, 31)] = 5  # stages with stride 2, from the second on, at most
    dropout: Annotated[float, Range(0, 0.99)] = 0.2  # probability, before the dense layer
    dtype: Literal["float32", "bfloat16"] = "float32"  # computation; parameters stay float32
    convolutions: Literal["auto", "plain", "native"] = "auto"  # native: in C++, for a CPU


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Pixel operations, drawn for each image, in this order; then one mix, drawn for each batch."""

    flip: Probability = 0.5  # probability of a horizontal flip
    alternating_flip: bool = False  # each image flipped in every other epoch, the first drawn once
    random_crop: Probability = 0.0  # probability of a shift by whole pixels
    padding: Annotated[int, Range(1, IMAGE_SIDE - 1)] = 4  # largest such shift [pixels]
    shift_scale_rotate: Probability = 0.5  # probability of the affine operation
    shift: Annotated[float, Range(0, 1)] = 0.1  # largest shift along each axis [fraction of side]
    scale: Annotated[float, Range(0, 0.9)] = 0.1  # largest change of size [fraction]
    rotate: Annotated[float, Range(0, 180)] = 15.0  # largest rotation [degrees]
    border: Literal["constant", "reflect101"] = "constant"  # what lies outside of the image
    brightness_contrast: Probability = 0.5  # probability of the operation
    brightness: Fraction = 0.2  # largest added brightness [fraction of full scale]
    contrast: Fraction = 0.2  # largest change of the factor of contrast
    hue_saturation_value: Probability = 0.5  # probability of the operation
    hue: Annotated[float, Range(0, 90)] = 20.0  # largest shift of hue [2 degrees, as OpenCV]
    saturation: Annotated[float, Range(0, 255)] = 30.0  # largest shift [1/255 of full scale]
    value: Annotated[float, Range(0, 255)] = 20.0  # largest shift [1/255 of full scale]
    coarse_dropout: Probability = 0.3  # probability of erasing one rectangle
    hole_min: Count = 4  # smallest side of the rectangle [pixels]
    hole_max: Annotated[int, Range(1, IMAGE_SIDE)] = 8  # largest side of the rectangle [pixels]
    mean: tuple[Fraction, ...] = (0.49140, 0.48216, 0.44653)  # of each channel, in [0, 1]
    std: tuple[Positive, ...] = (0.24703, 0.24349, 0.26159)  # of each channel, in [0, 1]
    ricap: Probability = 0.2  # probability that a batch is mixed by RICAP
    ricap_beta: Positive = 0.3  # both parameters of its Beta distribution
    mixup: Probability = 0.3  # probability that a batch is mixed by MixUp
    mixup_alpha: Positive = 1.0  # both parameters of its Beta distribution
    cutmix: Probability = 0.3  # probability that a batch is mixed by CutMix
    cutmix_alpha: Positive = 1.0  # both parameters of its Beta distribution
    mix_per_image: bool = False  # MixUp and CutMix draw lambda and box for each image

    @classmethod
    def only(cls, **fields: Any) -> "AugmentConfig":
        """The operations that are named, with their probabilities; all others have 0.

        >>> augment = AugmentConfig.only(flip=0.5, padding=2)
        >>> augment.flip, augment.padding, augment.cutmix, augment.cutmix_alpha
        (0.5, 2, 0.0, 1.0)

        Args:
          **fields: values by name; what is no probability of an operation has its default.
        """
        off: dict[str, Any] = dict.fromkeys(OPERATIONS, 0.0)
        return cls(**off | fields)


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """SGD with momentum, or Muon; a warm-up and a fall, both by step; and the loss."""

    optimizer: Literal["sgd", "muon"] = "sgd"  # muon: for the 1x1 kernels, sgd for the rest
    learning_rate: Annotated[float, Range(1e-12, 1e6)] = 0.05  # at the end of the warm-up
    schedule: Literal["cosine", "linear"] = "cosine"  # how it falls after the warm-up
    final_learning_rate: NonNegative = 0.0  # that it falls to after the last step
    warmup: Annotated[float, Range(0, 1)] = 0.025  # linear warm-up [fraction of the run's steps]
    momentum: Annotated[float, Range(0, 0.9999)] = 0.9  # decay of the velocity
    nesterov: bool = False  # Nesterov's form of the momentum
    weight_decay: NonNegative = 1e-4  # L2 penalty, added to each gradient
    muon_learning_rate: Positive = 0.05  # of the 1x1 kernels, on the same schedule
    muon_weight_decay: NonNegative = 0.0  # of the 1x1 kernels, times their learning rate
    clip_norm: NonNegative = 1.0  # largest global norm of the gradient; 0: no clipping
    label_smoothing: Annotated[float, Range(0, 0.99)] = 0.1  # mass spread over all classes
    ema_decay: Annotated[float, Range(0, 0.999999)] = 0.999  # averaged weights, each step; 0: off
    nonfinite_limit: Count = 10  # skipped updates in a row at the end of a chunk that stop the run


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """Learning from a teacher: a trained network, whose answers count beside the labels."""

    teacher: str = ""  # folder of exported weights; "": no teacher
    weight: Fraction = 0.9  # share of the distance to the teacher's answers in the loss
    temperature: Annotated[float, Range(0.1, 100)] = 4.0  # that softens both answers


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The loop."""

    epochs: Count = 200  # passes over the training images
    batch_size: Count = 128  # images per step
    seed: Seed = 0  # of weights, order, augmentation and dropout
    chunk_steps: Count = 64  # most steps in one call of the compiled loop
    checkpoint_every: Count = 1  # epochs between checkpoints
    keep_checkpoints: Count = 2  # newest checkpoints kept, beside the best one
    patience: CountOrOff = 20  # epochs without a gain in validation accuracy to stop at; 0: off
    min_delta: Fraction = 0.0  # gain in validation accuracy above which it counts [fraction]


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Evaluation."""

    batch_size: Count = 64  # images per step; few fit the caches of a CPU
    tta: Literal["none", "flip", "full"] = "full"  # test-time augmentation: 1, 2 or 8 views
