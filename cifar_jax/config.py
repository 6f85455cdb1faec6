"""The configuration: frozen dataclasses, checked, with overrides. Imports no jax.

A config file is Python and defines ``get_config() -> Config``; its sections and their fields are in
sections.py.
"""

import dataclasses
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_jax.errors import ConfigError
from cifar_jax.overrides import override
from cifar_jax.ranges import check_fields
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
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.train_images // self.train.batch_size

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical JSON of all fields; without "distill" if there is no teacher."""
        fields = to_dict(self)
        if not self.distill.teacher:
            del fields["distill"]
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
    """The config as nested dictionaries, JSON-ready: ``{"train": {"epochs": 200, ...}, ...}``."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(sections: Mapping[str, Mapping[str, Any]]) -> Config:
    """The inverse of :func:`to_dict`; unknown names and bad values raise ConfigError."""
    if unknown := sections.keys() - vars(Config()).keys():
        raise ConfigError(f"{min(unknown)}: no such section")
    built = {}
    for name, default in vars(Config()).items():
        given = dict(sections.get(name, {}))
        unknown = given.keys() - vars(default).keys()
        if unknown:
            raise ConfigError(f"{name}.{min(unknown)}: no such field")
        given = {field: tuple(v) if isinstance(v, list) else v for field, v in given.items()}
        built[name] = dataclasses.replace(default, **given)
    return validate(Config(**built))


def portable(config: Config) -> Config:
    """The config of a trained network for a machine that may have no native convolutions."""
    if config.model.convolutions != "native":
        return config
    return dataclasses.replace(config, model=dataclasses.replace(config.model, convolutions="auto"))


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
