"""The configuration: frozen dataclasses with units, ranges and overrides. Imports no jax.

A config file is Python and defines ``get_config() -> Config``. Each field says its unit in the
comment beside it, and its range in its type; ``--help`` prints both.
"""

import dataclasses
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cifar_jax.errors import ConfigError
from cifar_jax.overrides import override
from cifar_jax.ranges import (
    Count,
    CountOrOff,
    NonNegative,
    Positive,
    Probability,
    Range,
    Seed,
    check_fields,
)

TRAIN_IMAGES = 50_000  # in the training set of CIFAR-10
IMAGE_SIDE = 32  # pixels
MOST_STEPS = 2**31 - 1  # of a run: the step is an int32
SYNTHETIC_IMAGES = 5_000  # trained on when data.source is synthetic and data.train-examples is 0

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
    """The network; both are residual and of depthwise-separable convolutions."""

    architecture: Literal["separable", "preact"] = "separable"  # preact: with gates, see models/
    stem: Count = 20  # channels of the stem
    stages: tuple[Count, ...] = (20, 40, 80, 160)  # channels of each stage
    blocks: Count = 2  # residual blocks in each stage
    dropout: Annotated[float, Range(0, 0.99)] = 0.2  # probability, before the dense layer
    dtype: Literal["float32", "bfloat16"] = "float32"  # computation; parameters stay float32
    convolutions: Literal["auto", "plain", "native"] = "auto"  # native: in C++, for a CPU


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Pixel operations, drawn for each image, in this order; then one mix, drawn for each batch."""

    flip: Probability = 0.5  # probability of a horizontal flip
    alternating_flip: bool = False  # in every other epoch, the first by a draw, not by chance
    random_crop: Probability = 0.0  # probability of a shift by whole pixels
    padding: Annotated[int, Range(1, IMAGE_SIDE - 1)] = 4  # largest such shift [pixels]
    shift_scale_rotate: Probability = 0.5  # probability of the affine operation
    shift: Annotated[float, Range(0, 1)] = 0.1  # largest shift along each axis [fraction of side]
    scale: Annotated[float, Range(0, 0.9)] = 0.1  # largest change of size [fraction]
    rotate: Annotated[float, Range(0, 180)] = 15.0  # largest rotation [degrees]
    border: Literal["constant", "reflect101"] = "constant"  # what lies outside of the image
    brightness_contrast: Probability = 0.5  # probability of the operation
    brightness: Probability = 0.2  # largest added brightness [fraction of full scale]
    contrast: Probability = 0.2  # largest change of the factor of contrast
    hue_saturation_value: Probability = 0.5  # probability of the operation
    hue: Annotated[float, Range(0, 90)] = 20.0  # largest shift of hue [2 degrees, as OpenCV]
    saturation: Annotated[float, Range(0, 255)] = 30.0  # largest shift [1/255 of full scale]
    value: Annotated[float, Range(0, 255)] = 20.0  # largest shift [1/255 of full scale]
    coarse_dropout: Probability = 0.3  # probability of erasing one rectangle
    hole_min: Count = 4  # smallest side of the rectangle [pixels]
    hole_max: Annotated[int, Range(1, IMAGE_SIDE)] = 8  # largest side of the rectangle [pixels]
    mean: tuple[Probability, ...] = (0.49140, 0.48216, 0.44653)  # of each channel, in [0, 1]
    std: tuple[Positive, ...] = (0.24703, 0.24349, 0.26159)  # of each channel, in [0, 1]
    ricap: Probability = 0.2  # probability that a batch is mixed by RICAP
    ricap_beta: Positive = 0.3  # both parameters of its Beta distribution
    mixup: Probability = 0.3  # probability that a batch is mixed by MixUp
    mixup_alpha: Positive = 1.0  # both parameters of its Beta distribution
    cutmix: Probability = 0.3  # probability that a batch is mixed by CutMix
    cutmix_alpha: Positive = 1.0  # both parameters of its Beta distribution
    mix_per_image: bool = False  # MixUp and CutMix draw lambda and box for each image


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
class TrainConfig:
    """The loop."""

    epochs: Count = 200  # passes over the training images
    batch_size: Count = 128  # images a step
    seed: Seed = 0  # of weights, order, augmentation and dropout
    chunk_steps: Count = 64  # most steps in one call of the compiled loop
    checkpoint_every: Count = 1  # epochs between checkpoints
    keep_checkpoints: Count = 2  # newest checkpoints kept, beside the best one
    patience: CountOrOff = 20  # epochs without a gain in validation accuracy to stop at; 0: off
    min_delta: Probability = 0.0  # least gain in validation accuracy that counts [fraction]


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Evaluation."""

    batch_size: Count = 64  # images a step; few fit the caches of a CPU
    tta: Literal["none", "flip", "full"] = "full"  # test-time augmentation: 1, 2 or 8 views


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides a result."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    @property
    def train_images(self) -> int:
        """How many images an epoch has before the last incomplete batch is left out."""
        if self.data.source == "synthetic":
            return self.data.train_examples or SYNTHETIC_IMAGES
        return self.data.train_examples or TRAIN_IMAGES - self.data.validation_examples

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.train_images // self.train.batch_size

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical JSON of all fields."""
        return hashlib.sha256(json.dumps(to_dict(self), sort_keys=True).encode()).hexdigest()


def to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """The config as nested dictionaries, JSON-ready: ``{"train": {"epochs": 200, ...}, ...}``."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(sections: Mapping[str, Mapping[str, Any]]) -> Config:
    """The inverse of :func:`to_dict`; unknown names and bad values raise ConfigError."""
    built = {}
    for name, default in vars(Config()).items():
        given = dict(sections.get(name, {}))
        unknown = given.keys() - vars(default).keys()
        if unknown:
            raise ConfigError(f"{name}.{min(unknown)}: no such field")
        given = {field: tuple(v) if isinstance(v, list) else v for field, v in given.items()}
        built[name] = dataclasses.replace(default, **given)
    return validate(Config(**built))


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Load a config file, apply overrides and check every range.

    Args:
      path: a Python file that defines ``get_config() -> Config``.
      overrides: command-line words, as ``["--train.epochs", "2"]``.

    Returns:
      The checked config.

    Raises:
      ConfigError: in one line, for a missing or broken file, an unknown name (with the nearest
        right one), a value of the wrong type or out of range, or fields that do not fit together.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such config file")
    spec = importlib.util.spec_from_file_location("cifar_jax_user_config", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: a config is a Python file whose name ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:  # whatever the user's file raises is the user's to read
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: {type(error).__name__}: {reason}") from error
    if not isinstance(config, Config):
        raise ConfigError(f"{path}: get_config() must return a Config, not {config!r:.60}")
    _check_sections(config)
    return validate(override(config, overrides))


def validate(config: Config) -> Config:
    """Check types, ranges and fields that must fit together; returns ``config`` unchanged."""
    _check_sections(config)
    data, train, augment = config.data, config.train, config.augment
    if data.source != "synthetic" and data.train_examples + data.validation_examples > TRAIN_IMAGES:
        raise ConfigError(
            f"data.train_examples + data.validation_examples must be at most {TRAIN_IMAGES}, "
            f"not {data.train_examples + data.validation_examples}"
        )
    if train.batch_size > config.train_images:
        raise ConfigError(
            f"train.batch_size must be at most the {config.train_images} images that are "
            f"trained on, not {train.batch_size}"
        )
    if config.steps_per_epoch * train.epochs > MOST_STEPS:
        raise ConfigError(
            f"train.epochs must be at most {MOST_STEPS // config.steps_per_epoch}, so that the "
            f"run has at most {MOST_STEPS} steps, not {train.epochs}"
        )
    if augment.alternating_flip and augment.flip != 0.5:
        raise ConfigError(f"augment.flip must be 0.5 where flips alternate, not {augment.flip:g}")
    if augment.hole_min > augment.hole_max:
        most = f"augment.hole_max ({augment.hole_max})"
        raise ConfigError(f"augment.hole_min must be at most {most}, not {augment.hole_min}")
    if (total := augment.ricap + augment.mixup + augment.cutmix) > 1 + 1e-9:
        raise ConfigError(
            f"augment.ricap + augment.mixup + augment.cutmix must be at most 1, not {total:g}"
        )
    if len(augment.mean) != 3 or len(augment.std) != 3:
        raise ConfigError(
            "augment.mean and augment.std must have 3 numbers each, "
            f"not {len(augment.mean)} and {len(augment.std)}"
        )
    return config


def _check_sections(config: Config) -> None:
    for field in dataclasses.fields(Config):
        section = getattr(config, field.name)
        if type(section) is not type(field.default):
            kind = type(field.default).__name__
            raise ConfigError(f"{field.name} must be of type {kind}, not {section!r:.40}")
        check_fields(field.name, section)
