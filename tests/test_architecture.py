"""The arrows of docs/design.md: who may import whom."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cifar_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

LEAVES = {"config", "config_file", "sections", "overrides", "ranges", "files", "errors"}  # no jax
CORE_LEAVES = {
    "checks",
    "rng",
    "losses",
    "metrics",
    "state",
    "optim",
    "interop",
    "augment",
    "models",
}
CORE = CORE_LEAVES | {"tta", "steps"}
ALLOWED = {  # part -> parts of the package that it may import
    "errors": set(),
    "ranges": {"errors"},
    "files": {"errors"},
    "overrides": {"ranges", "errors"},
    "sections": {"ranges"},
    "config": {"sections", "ranges", "errors"},
    "config_file": {"config", "overrides", "errors"},
    **{part: {"config", "checks", part} for part in CORE_LEAVES},
    "interop": {"models"},
    "optim": {"config", "state"},
    "tta": {"augment"},
    "steps": CORE | {"config"},
    "data": {"data", "files", "errors"},
    "runtime": CORE | LEAVES | {"data", "runtime"},
    "commands": CORE | LEAVES | {"data", "runtime", "commands"},
    "cli": LEAVES | {"commands"},
    "__init__": {"data", "runtime"},
}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows(path):
    own = {name.split(".")[1] for name in imports(path) if name.startswith("cifar_jax.")}
    assert own <= ALLOWED[part_of(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_data_and_leaves_know_no_jax(path):
    if part_of(path) in LEAVES | {"data", "cli", "__init__"}:
        names = {name.split(".")[0] for name in imports(path)}
        assert not names & {"jax", "flax", "optax", "orbax", "chex"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_has_no_side_effects(path):
    if part_of(path) in CORE:
        names = {name.split(".")[0] for name in imports(path)}
        assert not names & {
            "os",
            "sys",
            "io",
            "pathlib",
            "time",
            "subprocess",
            "matplotlib",
            "tqdm",
        }
        text = path.read_text()
        assert "print(" not in "\n".join(x for x in text.splitlines() if ">>>" not in x)


CORE_FILES = [p for p in FILES if part_of(p) in CORE | {"config", "sections", "ranges", "errors"}]


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_needs_few_packages(path):
    """README.md says so to those who take a piece of it."""
    names = {name.split(".")[0] for name in imports(path)} - {"cifar_jax", *sys.stdlib_module_names}
    assert names <= ({"jax"} if part_of(path) == "augment" else {"jax", "flax", "optax", "numpy"})


def test_every_part_is_known():
    assert {part_of(path) for path in FILES} == ALLOWED.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 260
    assert path.stem != "utils"
