"""docs/api.md: each call is there as it is shown, and each public function of the core is shown."""

import ast
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

from cifar_jax import augment, interop, losses, metrics, models, optim, rng, state, steps, tta

TEXT = (Path(__file__).parents[1] / "docs" / "api.md").read_text()
CALLS = re.findall(r"^\| `([\w.]+)\((.*?)\)` \|", TEXT, re.MULTILINE)


def parameters(signature):
    """The shown parameters as inspect has them: name, kind, default."""
    (function,) = ast.parse(f"def shown({signature.removesuffix(', ...')}): pass").body
    namespace = {}
    exec(compile(ast.Module([function], []), "api.md", "exec"), namespace)
    return list(inspect.signature(namespace["shown"]).parameters.values())


def test_there_are_calls():
    assert len(CALLS) == TEXT.count("\n| `") > 50


@pytest.mark.parametrize(("name", "shown"), CALLS, ids=[name for name, _ in CALLS])
def test_calls_are_as_shown(name, shown):
    found = pkgutil.resolve_name(f"cifar_jax.{name}")
    actual = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(found).parameters.values()
        if parameter.name != "self"
    ]
    expected = parameters(shown)
    if shown.endswith(", ..."):
        actual = [p for p in actual if p.name in {shown.name for shown in expected}]
    assert actual == expected


@pytest.mark.parametrize(
    "module", [augment, interop, losses, metrics, models, optim, rng, state, steps, tta]
)
def test_every_public_function_of_the_core_is_shown(module):
    shown = {name for name, _ in CALLS}
    part = module.__name__.removeprefix("cifar_jax.")
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    ]
    functions = {
        f"{part}.{name}"
        for name in names
        if inspect.isfunction(getattr(module, name)) and not name.startswith("_")
    }
    assert functions
    assert functions <= shown
