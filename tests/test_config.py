import dataclasses
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cifar_jax import overrides
from cifar_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    DistillConfig,
    OptimConfig,
    from_dict,
    portable,
    to_dict,
    validate,
)
from cifar_jax.config_file import load_config
from cifar_jax.data import SOURCES
from cifar_jax.overrides import override
from cifar_jax.ranges import ConfigError, Range
from cifar_jax.sections import Source

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
FILE = Path(__file__).parents[1] / "configs" / "200k.py"
MUTE = (  # the start of a file with a class whose objects cannot be printed
    "import numpy as np\nfrom cifar_jax.config import *\n"
    "class Mute:\n    def __repr__(self): raise RuntimeError\n"
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_valid_and_claims_its_command(path):
    assert isinstance(load_config(path), Config)
    assert f"python main.py --config configs/{path.name}" in path.read_text()


def test_the_recipe_of_the_original():
    config = load_config(FILE)
    assert (config.optim.learning_rate, config.optim.momentum, config.optim.nesterov) == (
        0.05,
        0.9,
        False,
    )
    assert config.optim.warmup * config.train.epochs == 5
    assert (config.augment.ricap, config.augment.mixup, config.augment.cutmix) == (0.2, 0.3, 0.3)
    assert config.steps_per_epoch == 45_000 // 128


def test_overrides():
    words = "--train.epochs 2 --optim.learning-rate 0.1 --data.source synthetic"
    words += " --data.train-examples 5000 --train.seed 3 --optim.nesterov True --model.stages 8 16"
    config = load_config(FILE, words.split())
    assert config.train.epochs == 2
    assert config.train.seed == 3
    assert config.optim.learning_rate == 0.1
    assert config.optim.nesterov
    assert config.model.stages == (8, 16)
    assert config.data == DataConfig(source="synthetic", train_examples=5000)
    assert load_config(FILE, ["--train.epochs=2", "--train.batch_size=64"]).train.batch_size == 64


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--train.epoch 3", "--train.epoch: no such option; did you mean --train.epochs?"),
        ("--optim.lerning-rate 3", "did you mean --optim.learning-rate?"),
        ("--train.lr 3", "--train.lr: no such option; did you mean --optim.learning-rate?"),
        ("--batch_size 3", "did you mean --train.batch-size or --eval.batch-size?"),
        ("--data.dir x", "did you mean --data.data-dir?"),
        ("--model.width 3", "--model.width: no such option; --help lists the options"),
        ("--xyz", "--xyz: no such option; --help lists the options"),
        ("--train.epochs two", "--train.epochs must be a whole number, not 'two'"),
        ("--train.epochs=1.5", "--train.epochs must be a whole number, not '1.5'"),
        ("--train.epochs", "--train.epochs must be followed by a whole number"),
        ("--optim.nesterov --train.seed 1", "--optim.nesterov must be followed by True or False"),
        ("--model.dtype float16", "--model.dtype must be one of float32, bfloat16, not 'float16'"),
        ("--model.stages 8 x", "--model.stages must be whole numbers separated by spaces, not"),
        ("--augment.mean 0.1 x", "--augment.mean must be numbers separated by spaces, not '0.1 x'"),
        ("--model.dtype x--foo.bar", "must be one of float32, bfloat16, not 'x--foo.bar'"),
        ("--model.dtype x--train.epochs", "--model.dtype must be one of float32, bfloat16, not 'x"),
        ("--train.lerning-rate 3", "did you mean --optim.learning-rate?"),
        (
            "--optim.learning-rate nan",
            "optim.learning_rate must be between 1e-12 and 1000000, not nan",
        ),
        (
            "--optim.learning-rate inf",
            "optim.learning_rate must be between 1e-12 and 1000000, not inf",
        ),
        ("--augment.mixup 1.5", "augment.mixup must be between 0 and 1, not 1.5"),
        ("--augment.mixup 0.9", "augment.ricap + augment.mixup + augment.cutmix must be at most 1"),
        (
            "--augment.alternating-flip True --augment.flip 0.2",
            "augment.flip must be 0.5 where flips alternate, not 0.2",
        ),
        (
            "--optim.final-learning-rate 1",
            "optim.final_learning_rate must be at most optim.learning_rate (0.05), not 1",
        ),
        ("--augment.hole-min 9", "augment.hole_min must be at most augment.hole_max (8), not 9"),
        ("--augment.mean 0.5", "augment.mean and augment.std must have 3 numbers each, not 1"),
        ("--optim.warmup 1.1", "optim.warmup must be between 0 and 1, not 1.1"),
        ("--train.batch-size 45001", "at most the 45000 images that are trained on, not 45001"),
        ("--data.validation-examples 50000", "train.batch_size must be at most the 0 images"),
        ("--data.train-examples 45001", "must be at most 50000, not 50001"),
        (
            "--data.source synthetic --data.train-examples 1000000",
            "must be at most 100000, not 1005000",
        ),
        (
            "--data.source synthetic --data.validation-examples 100000",
            "must be at most 100000, not 105000",
        ),
        ("--train.seed -1", "train.seed must be between 0 and"),
        ("--model.stages", "model.stages must be a tuple of at least one number, not ()"),
        ("--augment.hole-max 64", "augment.hole_max must be between 1 and 32, not 64"),
        ("--optim.learning-rate 1e30", "optim.learning_rate must be between 1e-12 and 1000000"),
        (f"--train.epochs {10**40}", "train.epochs must be between 1 and 2147483647, not 1000"),
        ("--train.epochs 2000000000", "train.epochs must be at most 6118187, so that the run has"),
        ("--model.stages 8 0", "model.stages must be between 1 and 2147483647, not 0"),
    ],
)
def test_bad_overrides_are_one_line(words, message):
    with pytest.raises(ConfigError) as error:
        load_config(FILE, words.split())
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(: pass", "SyntaxError"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("def get_config(): return 3", "must have a function get_config() that returns a Config, "),
        ("x = 1", "must have a function get_config() that returns a Config, not None"),
        (f"{MUTE}def get_config(): return Mute()", "not a value of type Mute that cannot be"),
        (
            "from cifar_jax.config import *\ndef get_config(): return Config(train=TrainConfig("
            "epochs=0))",
            "train.epochs must be between 1 and 2147483647, not 0",
        ),
        (
            "from cifar_jax.config import *\ndef get_config(): return Config(train=TrainConfig("
            "epochs=2.0))",
            "train.epochs must be of type int, not 2.0",
        ),
        (
            "from cifar_jax.config import *\ndef get_config(): return Config(train=TrainConfig("
            "epochs=10**5000))",
            "between 1 and 2147483647, not a value of type int that cannot be printed",
        ),
        (
            "from cifar_jax.config import *\ndef get_config(): return Config(data=DataConfig("
            "source='web'))",
            "data.source must be one of auto",
        ),
        *(
            (f"{MUTE}def get_config(): return Config({text})", message)
            for text, message in [
                ("model=ModelConfig(stages=[8])", "model.stages must be a tuple of at least one"),
                ("model=ModelConfig(stages=8)", "model.stages must be a tuple of at least one"),
                ("train=TrainConfig(epochs=(3,))", "train.epochs must be of type int, not (3,)"),
                ("data=DataConfig(data_dir=3)", "data.data_dir must be of type str, not 3"),
                ("train=5", "train must be of type TrainConfig, not 5"),
                ("data=None", "data must be of type DataConfig, not None"),
                ("data=Mute()", "data must be of type DataConfig, not a value of type Mute that"),
                ("data=DataConfig(source=np.zeros(2))", "source must be one of auto"),
                ("train=TrainConfig(epochs=np.ones(2))", "must be of type int, not array([1., 1."),
            ]
        ),
    ],
)
def test_broken_files(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        load_config(path)
    assert "\n" not in str(error.value)


def test_sources_are_those_of_the_data_package():
    assert set(get_args(Source)) == set(SOURCES)


def test_annotations_that_are_text(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "from __future__ import annotations\nimport dataclasses\n"
        "from cifar_jax.config import Config\n"
        "@dataclasses.dataclass\nclass Mine:\n    epochs: int = 3\n"
        "def get_config() -> Config:\n"
        "    return Config().replace(train={'epochs': Mine().epochs})\n"
    )
    assert load_config(path).train.epochs == 3


@pytest.mark.parametrize("section", ["source=", "data_dir=", "split_seed="])
def test_numbers_that_python_does_not_print(tmp_path, section):
    text = "from cifar_jax.config import *\n"
    text += f"def get_config(): return Config(data=DataConfig({section}10**5000))"
    (tmp_path / "config.py").write_text(text)
    with pytest.raises(ConfigError, match=r"^data\.\w+ must be .*, not a value of type int that"):
        load_config(tmp_path / "config.py")


def test_a_message_in_no_box_is_told(monkeypatch):
    """What tyro prints may look otherwise in a later version."""

    def other(*_, **__):
        print("Option --train.epochs: no", file=sys.stderr)
        raise SystemExit(2)

    monkeypatch.setattr(overrides, "_parse", other)
    with pytest.raises(ConfigError, match=r"^--train\.epochs must be a whole number, not 'x'$"):
        override(Config(), ["--train.epochs", "x"])


def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path):
    """As by an editor within a second, or where an archive sets all times alike."""
    path = tmp_path / "config.py"
    for epochs in (3, 4):
        text = "from cifar_jax.config import *\ndef get_config():\n"
        path.write_text(text + f"    return Config(train=TrainConfig(epochs={epochs}))")
        os.utime(path, (1e9, 1e9))
        assert load_config(path).train.epochs == epochs
    assert [file.name for file in tmp_path.iterdir()] == ["config.py"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys\ndef get_config(): sys.exit(0)", "SystemExit: 0"),
        ("def get_config(): raise GeneratorExit", "GeneratorExit"),
    ],
)
def test_a_config_that_would_end_the_program(tmp_path, text, message):
    (tmp_path / "config.py").write_text(text)
    with pytest.raises(ConfigError, match=rf"config\.py: {message}$"):
        load_config(tmp_path / "config.py")


def test_an_interrupt_in_a_config_is_one(tmp_path):
    (tmp_path / "config.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_config(tmp_path / "config.py")


def test_missing_file():
    with pytest.raises(ConfigError, match=r"^nowhere\.py: no such config file$"):
        load_config("nowhere.py")


def test_not_python(tmp_path):
    for name in ("config.yaml", "config.so"):
        (tmp_path / name).write_text("a: 1")
        with pytest.raises(ConfigError, match=r"ends in \.py"):
            load_config(tmp_path / name)


@pytest.mark.parametrize(("asked", "kept"), [("native", "auto"), ("plain", "plain")])
def test_only_native_convolutions_tie_a_network_to_a_machine(asked, kept):
    config = load_config(FILE, ["--model.convolutions", asked])
    assert portable(config) == load_config(FILE, ["--model.convolutions", kept])


def test_dictionaries_round_trip():
    config = load_config(FILE, ["--model.stages", "8", "16", "--train.seed", "7"])
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(ConfigError, match=r"train\.epoch: no such field"):
        from_dict({"train": {"epoch": 3}})
    with pytest.raises(ConfigError, match="trian: no such section"):
        from_dict({"trian": {"epochs": 3}})
    with pytest.raises(ConfigError, match=r"^a config must map names to values, not be "):
        from_dict([])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=r"^train must map names to values, not be 5$"):
        from_dict({"train": 5})  # pyright: ignore[reportArgumentType]


def test_equal_configs_have_one_hash():
    """Whether a number is written as 0, or as 0.0 as the command line reads it."""
    whole = Config(optim=OptimConfig(clip_norm=0), augment=AugmentConfig(std=(1, 1, 1)))
    other = Config(optim=OptimConfig(clip_norm=0.0), augment=AugmentConfig(std=(1.0, 1.0, 1.0)))
    assert whole == other
    assert whole.sha256 == other.sha256 != Config().sha256
    with pytest.raises(ConfigError, match=r"^optim\.clip_norm must be at least 0, not 1000"):
        validate(Config(optim=OptimConfig(clip_norm=10**400)))


def test_a_field_that_came_later_leaves_the_hashes_as_they_were():
    run = FILE.parents[1] / "results" / "2026-11-27-h200-best-taught" / "seed0"
    fields = json.loads((run / "config.json").read_text())
    assert "halvings" not in fields["model"]
    found = json.loads((run / "results.json").read_text())
    assert from_dict(fields).sha256 == found["config_sha256"]


def test_hash_depends_on_every_field():
    config = Config(distill=DistillConfig(teacher="runs/teacher"))
    hashes = {config.sha256}
    for section, fields in to_dict(config).items():
        for name in fields:
            part = getattr(config, section)
            changed = dataclasses.replace(part, **{name: "changed"})
            hashes.add(dataclasses.replace(config, **{section: changed}).sha256)
    assert len(hashes) == 1 + sum(map(len, to_dict(config).values()))


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(-5, 5), st.floats(0, 5))
def test_range(value, low, width):
    inside = value in Range(low, low + width)
    assert inside == (math.isfinite(value) and low <= value <= low + width)


@given(st.lists(st.text(max_size=12) | st.sampled_from(["--train.epochs", "9" * 400]), max_size=5))
@example(["--a\nb"])
@example(["--train.epochs", "9" * 400])
def test_any_words_end_in_a_config_or_one_line(words):
    outcome = "a valid config"
    try:
        validate(load_config(FILE, words))
    except ConfigError as error:
        outcome = str(error)
    assert outcome
    assert "\n" not in outcome


def test_imports_no_jax():
    code = "import sys, cifar_jax.cli; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
