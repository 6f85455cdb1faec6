"""The configuration: frozen dataclasses, checked. Imports no jax.

Its sections and their fields are in sections.py; config_file.py reads a config file.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cifar_jax.errors import ConfigError, shown
from cifar_jax.ranges import check_fields, with_floats
from cifar_jax.sections import (
    IMAGE_SIDE,
    AugmentConfig,
    DataConfig,
    DistillConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)

IMAGE_SHAPE = (IMAGE_SIDE, IMAGE_SIDE, 3)
TRAIN_IMAGES = 50_000  # in the training set of CIFAR-10
MOST_STEPS = 2**31 - 1  # of a run: the step is an int32
MOST_SYNTHETIC = 100_000  # images: they take 4 GB while they are made
SYNTHETIC_IMAGES = 5_000  # trained on when data.source is synthetic and data.train-examples is 0


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides a result."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    distill: DistillConfig = DistillConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    @property
    def train_images(self) -> int:
        """How many images an epoch has before the last incomplete batch is left out."""
        if self.data.source == "synthetic":
            return self.data.train_examples or SYNTHETIC_IMAGES
        return self.data.train_examples or TRAIN_IMAGES - self.data.validation_examples

    @property
    def held_out(self) -> tuple[int, ...]:
        """What tells the validation images from those of other configs."""
        made = self.train_images if self.data.source == "synthetic" else 0
        return (self.data.validation_examples, self.data.split_seed, made)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.train_images // self.train.batch_size

    def replace(self, **sections: Mapping[str, Any]) -> "Config":
        """The config with other values, which are not checked; see :func:`validate`.

        >>> Config().replace(train={"seed": 3, "epochs": 10}).train.seed
        3

        Args:
          **sections: of each section that changes, values by the names of fields.
        """
        own = {
            name: dataclasses.replace(getattr(self, name), **fields)
            for name, fields in sections.items()
        }
        return dataclasses.replace(self, **own)

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical JSON of all fields.

        Without "distill" if there is no teacher, and without ``model.halvings`` if it is the
        default: the hashes of configs are those from before there were these.
        """
        fields = to_dict(self)
        if not self.distill.teacher:
            del fields["distill"]
        if self.model.halvings == ModelConfig.halvings:
            del fields["model"]["halvings"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def choose_chunk(steps_per_epoch: int, wanted: int) -> int:
    """The length of a chunk: a divisor of the steps of an epoch, at most ``wanted`` if it can be.

    Where the largest such divisor is less than a quarter of ``wanted``, as when the steps are a
    prime number, the next one above is taken: a chunk costs a permutation and a host transfer.

    >>> choose_chunk(351, 64), choose_chunk(97, 64), choose_chunk(20, 64)
    (39, 97, 20)
    """
    divisors = [steps for steps in range(1, steps_per_epoch + 1) if steps_per_epoch % steps == 0]
    below = max(steps for steps in divisors if steps <= wanted)
    above = [steps for steps in divisors if steps > wanted]
    return above[0] if above and 4 * below < wanted else below


def to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """The config as nested dictionaries, JSON-ready: ``{"train": {"epochs": 200, ...}, ...}``.

    An int that stands for a float becomes one, so that equal configs are the same text.
    """
    sections = {name: with_floats(section) for name, section in vars(config).items()}
    return json.loads(json.dumps(sections))


def from_dict(sections: Mapping[str, Mapping[str, Any]]) -> Config:
    """The inverse of :func:`to_dict`; unknown names and bad values raise ConfigError."""
    _require_mapping("a config", sections)
    if unknown := sections.keys() - vars(Config()).keys():
        raise ConfigError(f"{min(unknown)}: no such section")
    built = {}
    for name, default in vars(Config()).items():
        given = sections.get(name, {})
        _require_mapping(name, given)
        unknown = given.keys() - vars(default).keys()
        if unknown:
            raise ConfigError(f"{name}.{min(unknown)}: no such field")
        given = {field: tuple(v) if isinstance(v, list) else v for field, v in given.items()}
        built[name] = dataclasses.replace(default, **given)
    return validate(Config(**built))


def _require_mapping(name: str, given: Any) -> None:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{name} must map names to values, not be {shown(given)}")


def portable(config: Config) -> Config:
    """The config of a trained network where there may be no native convolutions for it."""
    if config.model.convolutions != "native":
        return config
    return config.replace(model={"convolutions": "auto"})


def validate(config: Config) -> Config:
    """Check types, ranges and fields that must fit together; returns ``config`` unchanged."""
    check_sections(config)
    data, train, augment, optim = config.data, config.train, config.augment, config.optim
    most, total = TRAIN_IMAGES, data.train_examples + data.validation_examples
    if data.source == "synthetic":
        most, total = MOST_SYNTHETIC, config.train_images + data.validation_examples
    if total > most:
        raise ConfigError(
            f"data.train_examples + data.validation_examples must be at most {most}, not {total}"
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
    if optim.final_learning_rate > optim.learning_rate:
        raise ConfigError(
            f"optim.final_learning_rate must be at most optim.learning_rate "
            f"({optim.learning_rate:g}), not {optim.final_learning_rate:g}"
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


def check_sections(config: Config) -> None:
    """Check the type and the range of each field; raises ConfigError."""
    for field in dataclasses.fields(Config):
        section = getattr(config, field.name)
        if type(section) is not type(field.default):
            kind = type(field.default).__name__
            raise ConfigError(f"{field.name} must be of type {kind}, not {shown(section)}")
        check_fields(field.name, section)
