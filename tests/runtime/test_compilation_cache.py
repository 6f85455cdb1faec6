"""Tests of the compilation cache, each with a user's cache folder of its own."""

import dataclasses
import importlib.util
import os
import pwd
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from cifar_jax import cli
from cifar_jax.runtime import compilation_cache, score
from cifar_jax.runtime import train as train_module
from cifar_jax.runtime.compilation_cache import (
    MAX_BYTES,
    cache_folder,
    cache_lookups,
    enable_compilation_cache,
)

UNSET = {  # jax, where nobody has said anything
    "jax_compilation_cache_dir": None,
    "jax_compilation_cache_max_size": -1,
    "jax_persistent_cache_min_compile_time_secs": 1.0,
}


def forget() -> None:
    """What a new process would not know."""
    reset_cache()
    jax.clear_caches()


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
def small(monkeypatch):
    """Every program counts, however quick to compile."""
    monkeypatch.setattr(compilation_cache, "MIN_SECONDS", 0.0)


def refuse(line: str) -> None:
    raise AssertionError(line)


PROGRAMS = ("jit_create", "jit_train_chunk", "jit_eval_step")


def entries(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*-cache")}


def compute(factor: float, value: float = 3.0) -> float:
    """Compiles one program for each factor."""
    return float(jax.jit(lambda x: jnp.sin(x) * factor)(jax.device_put(jnp.float32(value))))


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    return content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]


def empty(content: bytes) -> bytes:
    return b""


# jax compresses with zlib, whose sum tells a flipped bit, or with zstandard, without a sum.
ZLIB = sys.version_info < (3, 14) and importlib.util.find_spec("zstandard") is None
DAMAGES = [truncate, empty, flip] if ZLIB else [truncate, empty]


def damage(folder: Path, *how) -> None:
    for number, (name, content) in enumerate(sorted(entries(folder).items())):
        (folder / name).write_bytes(how[number % len(how)](content))


@pytest.fixture
def bare(light):
    """Quick to compile."""
    return dataclasses.replace(
        light,
        model=dataclasses.replace(light.model, stem=4, stages=(4,)),
        augment=dataclasses.replace(light.augment, flip=0.0),
        train=dataclasses.replace(light.train, epochs=1),
        eval=dataclasses.replace(light.eval, tta="none"),
    )


def programs() -> dict[str, bytes]:
    """The entries of large programs; on a busy machine a small one may take long enough, too."""
    found = entries(cache_folder())
    return {name: found[name] for name in found if name.startswith(PROGRAMS)}


def test_cold_warm_damaged_and_without_are_the_same_run(home, small, bare, tmp_path):
    notes = []

    def run(name: str) -> tuple[str, bool]:
        forget()
        results = train_module.train(bare, tmp_path / name)
        log = (tmp_path / name / "log.txt").read_text()
        assert results["compile_seconds"] > 0
        assert ("compiled in" in log) != ("loaded from the compilation cache in" in log)
        return results["weights_sha256"], "loaded from" in log

    without, _ = run("without")
    assert not home.exists()
    enable_compilation_cache(notes.append)
    assert run("cold") == (without, False)
    written = programs()
    for program in PROGRAMS:
        assert any(name.startswith(program) for name in written)
    assert run("warm") == (without, True)
    assert programs() == written
    assert notes == []
    damage(cache_folder(), *DAMAGES)
    assert run("damaged") == (without, False)
    assert len(notes) == 1
    assert programs().keys() == written.keys()
    assert run("repaired") == (without, True)
    assert len(notes) == 1


@pytest.mark.usefixtures("home", "small")
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_entry_is_told_once_and_replaced(how):
    notes = []
    enable_compilation_cache(notes.append)
    expected = [compute(2.0), compute(3.0)]
    damage(cache_folder(), how)
    forget()
    assert [compute(2.0), compute(3.0)] == expected
    assert len(notes) == 1
    assert notes[0].startswith("compiling without the compilation cache: Error reading ")
    assert "\n" not in notes[0]
    forget()
    with cache_lookups() as hits:
        assert [compute(2.0), compute(3.0)] == expected
    assert sum(hits) >= 2
    assert len(notes) == 1


@pytest.mark.usefixtures("small")
def test_a_folder_that_cannot_be(home):
    home.write_text("a file in its place")
    notes = []
    enable_compilation_cache(notes.append)
    expected = [compute(2.0), compute(3.0)]
    forget()
    assert [compute(2.0), compute(3.0)] == expected
    assert len(notes) == 1
    assert str(home) in notes[0]


@pytest.mark.usefixtures("home", "small")
def test_a_full_disk_leaves_no_half_entry():
    notes = []
    enable_compilation_cache(notes.append)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        expected = compute(2.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(notes) == 1
    assert "File too large" in notes[0]
    assert entries(cache_folder()) == {}
    forget()
    assert compute(2.0) == expected
    forget()
    with cache_lookups() as hits:
        assert compute(2.0) == expected
    assert any(hits)
    assert len(notes) == 1


@pytest.mark.usefixtures("home", "small")
def test_a_dead_writers_entry_is_in_nobodys_way():
    enable_compilation_cache(lambda line: None)
    cache_folder().mkdir(parents=True)
    (cache_folder() / "jit_other-0123-cache").write_bytes(b"half an entry, and no stamp")
    compute(2.0)
    compute(3.0)
    forget()
    with cache_lookups() as hits:
        compute(3.0)
    assert any(hits)


@pytest.mark.usefixtures("home", "small")
def test_the_last_program_is_told_from_those_before_it():
    """By which a loop that was compiled is not said to be loaded."""
    enable_compilation_cache(refuse)
    compute(2.0)
    forget()
    with cache_lookups() as hits:
        compute(2.0)
        compute(3.0)
    assert any(hits)
    assert not hits[-1]


@pytest.mark.usefixtures("home", "small")
def test_the_size_is_bounded(monkeypatch):
    monkeypatch.setattr(compilation_cache, "MAX_BYTES", 20_000)
    enable_compilation_cache(refuse)
    for factor in range(12):
        compute(float(factor))
    sizes = [len(content) for content in entries(cache_folder()).values()]
    assert 10_000 < sum(sizes) <= 20_000
    forget()
    with cache_lookups() as hits:
        compute(11.0)
        assert any(hits)
    with cache_lookups() as hits:
        compute(0.0)
        assert not any(hits)


@pytest.mark.usefixtures("home", "small")
def test_what_is_larger_than_the_bound_is_not_kept(monkeypatch):
    monkeypatch.setattr(compilation_cache, "MAX_BYTES", 100)
    notes = []
    enable_compilation_cache(notes.append)
    compute(2.0)
    assert len(notes) == 1
    assert "exceeds the maximum cache size of 100 bytes" in notes[0]
    assert entries(cache_folder()) == {}


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
    ("words", "module", "function"),
    [
        ("train --config configs/smoke.py", train_module, "train"),
        ("eval --config configs/smoke.py", score, "evaluate_run"),
    ],
)
def test_the_commands_use_it(home, monkeypatch, capsys, words, module, function):
    def stand_in(*_, **__):
        assert jax.config.values["jax_compilation_cache_dir"] == str(cache_folder())
        for _ in range(2):
            warnings.warn(
                "Error reading persistent compilation cache entry for 'jit_f': OSError: a\nreason",
                stacklevel=1,
            )
        raise KeyboardInterrupt

    monkeypatch.setattr(module, function, stand_in)
    assert cli.main(words.split()) == 130
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert lines[0] == (
        "main.py: compiling without the compilation cache: Error reading persistent compilation "
        "cache entry for 'jit_f': OSError: a reason"
    )
    assert len(lines) == 2
    assert lines[1].startswith("interrupted")
