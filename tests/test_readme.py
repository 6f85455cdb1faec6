"""What the documents say is true: README's Python runs, commands parse, named tests are there."""

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
        if "--seeds" in overrides:  # the last option of a sweep
            overrides = overrides[: overrides.index("--seeds")]
        load_config(path, overrides)


def test_the_tests_of_reliability_md_are_there():
    folder = Path(__file__).parent
    text = (folder.parent / "docs" / "reliability.md").read_text()
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert len(named) > 40
    for file, name in named:
        assert re.search(rf"^def {name}\(", (folder / file).read_text(), re.MULTILINE), (file, name)
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert all("::" in line or "| test |" in line for line in tables)
