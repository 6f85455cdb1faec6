"""A shell that has no programs runs the commands in the documents; what python gets is parsed."""

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cifar_jax import cli
from cifar_jax.commands import sweep
from cifar_jax.config import Config, to_dict
from cifar_jax.config_file import load_config
from cifar_jax.errors import ConfigError
from cifar_jax.overrides import override

ROOT = Path(__file__).parents[1]
PAGES = {  # and how many commands each has at least
    "README.md": 15,
    "benchmarks/README.md": 5,
    "docs/gpu-queue.md": 25,
    "docs/recipes.md": 1,
    "docs/reproducing.md": 1,
    "docs/scaling.md": 2,
    "results/README.md": 10,
}
WHERE = ("*.md", "docs/*.md", "benchmarks/*.md", "results/*.md")
FIELDS = {f"{section}.{field}" for section, f in to_dict(Config()).items() for field in f}
OTHERS = ("grep", "mv", "pip", "pytest", "rm", "sed")  # programs that do nothing here
SHELL = rf"""
python() {{ printf '%s\0' $# "$@" >&3; }}
timeout() {{ shift; "$@"; }}
mkdir() {{ /bin/mkdir "$@"; }}
for name in {" ".join(OTHERS)}; do eval "$name() {{ :; }}"; done
"""


def scripts(text: str) -> list[str]:
    """Blocks of code in Markdown, and code within lines, if they call python."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    blocks += re.findall(r"\n\n((?: {4}.*\n|\n(?= {4}))+)", text)
    spans = re.findall(r"`(python [^`\n]*)`", text)
    calls = re.compile(r"python (main|benchmarks/\w+)\.py|^ *\$\w+ --", re.MULTILINE)
    return [each for each in [*blocks, *spans] if calls.search(each)]


def commands(text: str, folder: Path) -> list[list[str]]:
    """The words that python gets from the scripts of a page, one after another in one shell."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    with (folder / "found").open("w+b") as file:
        parts = [f"exec 3>&{file.fileno()}", SHELL, *scripts(text)]
        done = subprocess.run(
            [bash, "-c", "\n".join(parts)],
            cwd=folder,
            env={"PATH": "/nowhere"},
            pass_fds=[file.fileno()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        file.seek(0)
        words = iter(file.read().decode().split("\0")[:-1])
    return [[next(words) for _ in range(int(count))] for count in words]


def check(script: str, *given: str) -> None:
    """Options are the script's, configs are there, fields of main.py have values that can be."""
    words = [word.strip("[]") for word in given]  # of a synopsis
    if script == "main.py":
        check_main(words)
        return
    source = (ROOT / script).read_text()
    if "scaling" in script:
        source += (ROOT / "benchmarks" / "scaling_point.py").read_text()
    source += (ROOT / "benchmarks" / "measure.py").read_text() * ("from measure" in source)
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--") and "." in word and "[FIELDS]" in source:
            assert word[2:].replace("-", "_") in FIELDS, f"{script} {word}"
        elif word.startswith("--"):
            assert f'"{word}"' in source, f"{script} {word}"
        if word == "--recipe":
            assert (ROOT / f"configs/{value}.py").is_file(), value
        if word == "--config":
            load_config(ROOT / value)


def check_main(words: list[str]) -> None:
    name = "train" if not words or words[0].startswith("-") else words.pop(0)
    options, others = cli._parser(name).parse_known_args(words)
    others = list(itertools.dropwhile(lambda word: word[0] != "-", others))  # files and folders
    for word in others:
        assert not word.startswith("-") or word[2:].replace("-", "_") in FIELDS, f"{name} {word}"
    path, grid = getattr(options, "config", None), getattr(options, "grid", [])
    if str(path) == "C":  # stands for any
        return
    for values in itertools.product(*sweep._read_grid(grid).values()):
        point = zip(sweep._read_grid(grid), values, strict=True)
        both = [*others, *(word for field, value in point for word in (f"--{field}", value))]
        load_config(path, both) if path else override(Config(), both)


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
        ("    pyhton main.py data; python main.py data", "pyhton"),
        ('    tune="python main.py sweep"\n\nThen:\n\n    $tune --sedes 0', "--sedes"),
        ("`python main.py eval --workdir x --eval.tta flipp`", "eval.tta"),
        ("`python main.py sweep --config configs/200k.py --grid optim.momentum=0,2`", "momentum"),
        ("`python benchmarks/formats.py --optim.momentum 0`", "--optim.momentum"),
        ("`python benchmarks/scaling.py --recipe 300k`", "300k"),
    ],
)
def test_a_wrong_command_is_found(tmp_path, monkeypatch, text, wrong):
    monkeypatch.chdir(ROOT)
    with pytest.raises((AssertionError, ConfigError), match=wrong):
        check_all(f"Do this:\n\n{text}\n", tmp_path)
