"""Where the compilation cache is and who decides; each test has a user's cache folder."""

import os
import pwd
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import pytest
from cache_cases import UNSET, entries, refuse

from cifar_jax import cli
from cifar_jax.runtime import compilation_cache, score
from cifar_jax.runtime import train as train_module
from cifar_jax.runtime.compilation_cache import (
    MAX_BYTES,
    cache_folder,
    enable_compilation_cache,
)


@pytest.mark.usefixtures("home")
def test_other_warnings_pass():
    enable_compilation_cache(refuse)
    with pytest.warns(UserWarning, match="something else"):
        warnings.warn("something else", stacklevel=1)
    shown = []
    warnings.showwarning = lambda *details: shown.append(details)
    enable_compilation_cache(refuse)
    warnings.showwarning("something else", UserWarning, "a.py", 1)  # type: ignore[arg-type]
    assert shown == [("something else", UserWarning, "a.py", 1)]


def test_defaults(home):
    enable_compilation_cache(refuse)
    folder = Path(jax.config.values["jax_compilation_cache_dir"])
    assert folder.is_relative_to(home / "cifar_jax" / "compiled")
    assert jax.config.values["jax_compilation_cache_max_size"] == MAX_BYTES


@pytest.mark.usefixtures("home")
def test_programs_belong_to_the_cores_they_were_compiled_for(monkeypatch):
    folders = set()
    for cores in (1, 2, None):
        monkeypatch.setattr(compilation_cache.environment, "cpu_cores", lambda n=cores: n)
        folders.add(cache_folder())
    assert len(folders) == 3


@pytest.mark.usefixtures("home")
def test_the_users_folder_stays_as_it_is(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    enable_compilation_cache(refuse)
    assert {name: jax.config.values[name] for name in UNSET} == UNSET | {
        "jax_compilation_cache_dir": str(tmp_path / "mine")
    }


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("name", list(UNSET))
def test_the_users_settings_win(monkeypatch, name):
    monkeypatch.setenv(name.upper(), "1000")  # jax has read it before
    jax.config.update(name, "1000" if name.endswith("_dir") else 1000)
    enable_compilation_cache(refuse)
    assert int(jax.config.values[name]) == 1000


@pytest.mark.usefixtures("home")
def test_without_a_home_there_is_no_cache(monkeypatch):
    def nobody(_):
        raise KeyError("no such user")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    notes = []
    enable_compilation_cache(notes.append)
    assert jax.config.values["jax_compilation_cache_dir"] is None
    assert len(notes) == 1
    assert "could not determine the home directory" in notes[0]


SCRIPT = """
import jax
from cifar_jax.runtime.compilation_cache import cache_lookups, enable_compilation_cache

enable_compilation_cache(print)
with cache_lookups() as hits:
    jax.jit(lambda x: jax.numpy.sin(x) * 2)(3.0)
print(sum(hits))
"""


def hits_of_a_process(environment: dict[str, str]) -> int:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=environment
        | {"JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stderr == ""
    return int(done.stdout)


def test_a_second_process_loads(home):
    environment = dict(os.environ)
    assert hits_of_a_process(environment) == 0
    written = entries(cache_folder())
    assert written
    assert hits_of_a_process(environment) > 0
    assert entries(cache_folder()) == written


def test_jaxs_environment_variables_win(home, tmp_path):
    mine = tmp_path / "mine"
    for name, value in (
        ("JAX_COMPILATION_CACHE_DIR", str(mine)),
        ("JAX_COMPILATION_CACHE_DIR", ""),
        ("JAX_ENABLE_COMPILATION_CACHE", "0"),
    ):
        assert hits_of_a_process(os.environ | {name: value}) == 0
        assert not home.exists()
    assert entries(mine)


@pytest.mark.parametrize(
    ("command", "module", "function"),
    [
        ("train", train_module, "train"),
        ("eval", score, "evaluate_run"),
    ],
)
@pytest.mark.usefixtures("home")
def test_the_commands_use_it(monkeypatch, tmp_path, capsys, command, module, function):
    """On the default folder of a run."""
    folders = []

    def stand_in(*arguments, **_):
        folders.extend(each for each in arguments if isinstance(each, Path))
        assert jax.config.values["jax_compilation_cache_dir"] == str(cache_folder())
        for _ in range(2):
            warnings.warn(
                "Error reading persistent compilation cache entry for 'jit_f': OSError: a\nreason",
                stacklevel=1,
            )
        raise KeyboardInterrupt

    monkeypatch.setattr(module, function, stand_in)
    monkeypatch.chdir(tmp_path)
    config = Path(__file__).parents[2] / "configs" / "smoke.py"
    assert cli.main([command, "--config", str(config), "--train.seed", "3"]) == 130
    assert folders == [Path("runs/smoke-seed3")]
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert lines[0] == (
        "main.py: compiling without the compilation cache: Error reading persistent compilation "
        "cache entry for 'jit_f': OSError: a reason"
    )
    assert len(lines) == 2
    assert lines[1].startswith("interrupted")
