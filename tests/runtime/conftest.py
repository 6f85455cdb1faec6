"""A run small enough for a test: generated images, 1,530 parameters; and a compilation cache."""

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from cache_cases import UNSET, forget

from cifar_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    validate,
)
from cifar_jax.runtime import compilation_cache, pictures
from cifar_jax.runtime.train import train

draw_pictures = pictures.draw_pictures  # in the place of which most tests get empty files


@pytest.fixture(scope="session")
def tiny() -> Config:
    return validate(
        Config(
            data=DataConfig(source="synthetic", train_examples=200, validation_examples=40),
            model=ModelConfig(stem=8, stages=(8, 16), blocks=1),
            augment=dataclasses.replace(AugmentConfig(), shift_scale_rotate=0.0, ricap=0.0),
            optim=OptimConfig(learning_rate=0.1, warmup=0.1, ema_decay=0.9),
            train=TrainConfig(epochs=4, batch_size=20, chunk_steps=5, patience=0),
            eval=EvalConfig(batch_size=64, tta="flip"),
        )
    )


@pytest.fixture(scope="session")
def light(tiny: Config) -> Config:
    """Without operations that take time to compile, for tests of a program of their own."""
    names = ("brightness_contrast", "hue_saturation_value", "coarse_dropout", "mixup", "cutmix")
    augment = dataclasses.replace(tiny.augment, **dict.fromkeys(names, 0.0))
    return validate(dataclasses.replace(tiny, augment=augment))


@pytest.fixture(scope="session")
def whole(
    tiny: Config, tmp_path_factory: pytest.TempPathFactory, compilation_cache: None
) -> tuple[Path, dict[str, Any]]:
    """A finished run of the tiny config, with its pictures: its folder and its results."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "draw_pictures", draw_pictures)
        return workdir, train(tiny, workdir, command="python main.py")


@pytest.fixture(scope="module", autouse=True)
def empty_pictures() -> Iterator[None]:
    """Pictures of runs are empty files, but for those of ``whole``: to draw them takes seconds."""

    def touch(config: Any, run: Any, *_: Any) -> None:
        for name in ("curves", "confusion", "augmentations"):
            (run.path / f"{name}.png").touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "draw_pictures", touch)
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_once(compilation_cache: None) -> None:
    """Compile each program of these tests once: most of them train the same tiny network."""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's cache folder, and jax as a new process finds it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    before = {name: jax.config.values[name] for name in UNSET}
    for name, value in UNSET.items():
        monkeypatch.delenv(name.upper(), raising=False)
        jax.config.update(name, value)
    forget()
    yield tmp_path / "home"
    for name, value in before.items():
        jax.config.update(name, value)
    forget()


@pytest.fixture
def every_program(monkeypatch):
    """What is kept in the cache: every program, however quick to compile."""
    monkeypatch.setattr(compilation_cache, "MIN_SECONDS", 0.0)
