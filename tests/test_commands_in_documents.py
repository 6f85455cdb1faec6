"""A shell that has no programs runs the commands in the documents; what python gets is parsed."""

import re
import subprocess
from pathlib import Path

import pytest

from cifar_jax import cli
from cifar_jax.config import Config, to_dict
from cifar_jax.config_file import load_config
from cifar_jax.errors import ConfigError

ROOT = Path(__file__).parents[1]
PAGES = {  # and how many commands each has at least
    "README.md": 15,
    "benchmarks/README.md": 5,
    "docs/gpu-queue.md": 20,
    "docs/recipes.md": 1,
    "docs/reproducing.md": 1,
    "docs/scaling.md": 2,
    "results/README.md": 10,
}
WHERE = ("*.md", "docs/*.md", "benchmarks/*.md", "results/*.md")
FIELDS = {f"{section}.{field}" for section, f in to_dict(Config()).items() for field in f}
SHARED = ("measure.py", "scaling_point.py")  # options of several benchmarks
SHELL = r"""
python() { printf '%s\0' $# "$@" >&3; }
timeout() { shift; "$@"; }
command_not_found_handle() { :; }
"""


def scripts(text: str) -> list[str]:
    """Blocks of code in Markdown, and code within lines, that call python."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    blocks += re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.MULTILINE)
    spans = re.findall(r"`(python [^`\n]*)`", text)
    return [
        each for each in [*blocks, *spans] if re.search(r"python (main|benchmarks/\w+)\.py", each)
    ]


def commands(text: str, folder: Path) -> list[list[str]]:
    """The words that python gets; other programs are not there, and files go to ``folder``."""
    for name in ("runs", "results"):
        (folder / name).mkdir()
    found = []
    for script in scripts(text):
        with (folder / "found").open("w+b") as file:
            program = f"exec 3>&{file.fileno()}\n{SHELL}\n{script}"
            done = subprocess.run(
                ["/bin/bash", "-c", program],
                cwd=folder,
                env={"PATH": "/nowhere"},
                pass_fds=[file.fileno()],
                capture_output=True,
                text=True,
            )
            assert not done.returncode, f"{script}: {done.stderr}"
            assert not done.stderr, f"{script}: {done.stderr}"
            file.seek(0)
            words = iter(file.read().decode().split("\0")[:-1])
        found += [[next(words) for _ in range(int(count))] for count in words]
    return found


def check(script: str, *given: str) -> None:
    """Options are the script's, fields and configs are there, and values are allowed."""
    words = [word.strip("[]") for word in given]  # of a synopsis
    if script != "main.py":
        files = [ROOT / script, *(ROOT / "benchmarks" / name for name in SHARED)]
        source = "".join(file.read_text() for file in files)
        for word in words:
            assert word[:2] != "--" or f'"{word}"' in source or word[2:] in FIELDS, (
                f"{script} {word}"
            )
        return
    name = "train" if not words or words[0].startswith("-") else words.pop(0)
    options, others = cli._parser(name).parse_known_args(words)
    for word in others:
        assert not word.startswith("-") or word[2:].replace("-", "_") in FIELDS, f"{script} {word}"
    config = getattr(options, "config", None)
    if config and str(config) != "C":
        load_config(config, others)


def check_all(text: str, folder: Path) -> int:
    """Check each command of a page, and count them."""
    found = commands(text, folder)
    for words in found:
        check(*words)
    return len(found)


@pytest.mark.parametrize("page", PAGES)
def test_commands(page, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert check_all((ROOT / page).read_text(), tmp_path) >= PAGES[page]


def test_the_pages_are_all():
    pages = {page for where in WHERE for page in ROOT.glob(where)}
    calling = {str(page.relative_to(ROOT)) for page in pages if scripts(page.read_text())}
    assert calling == PAGES.keys()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("    python main.py sweep --config configs/200k.py --sedes 0", "--sedes"),
        ("`python main.py --config configs/200k.py --optim.momentum 2`", "optim.momentum"),
        ("`python main.py --config configs/300k.py`", "configs/300k.py"),
        ("```sh\nfor x in 1 2; do\n  python main.py predict --to$x a\ndone\n```", "--to1"),
        ("    python benchmarks/search.py --config configs/200k.py --keeps 1", "--keeps"),
        ("    python main.py data ) | cat", "syntax error"),
    ],
)
def test_a_wrong_command_is_found(tmp_path, monkeypatch, text, wrong):
    monkeypatch.chdir(ROOT)
    with pytest.raises((AssertionError, ConfigError), match=wrong):
        check_all(f"Do this:\n\n{text}\n", tmp_path)
