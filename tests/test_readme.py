"""What README.md says is true: its Python runs, its commands parse."""

import re
import shlex
from pathlib import Path

import pytest

from cifar_jax.config import load_config

TEXT = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = re.findall(r"python main\.py[^\n#`]*", TEXT)


def test_python():
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_there_are_commands():
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_configs_and_overrides(command):
    words = shlex.split(command)[2:]
    if "--config" in words:
        path, *overrides = words[words.index("--config") + 1 :]
        load_config(path, overrides)
