"""How the native convolutions are had: compiled once, kept, and done without where need be."""

import dataclasses
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import platformdirs
import pytest

from cifar_jax.config import Config, ConfigError, ModelConfig
from cifar_jax.runtime import kernels

ROOT = Path(__file__).parents[2]
LANES = 12  # of a library that is none
load = kernels.load.__wrapped__  # as in a new process


def config_of(**model):
    return Config(model=dataclasses.replace(ModelConfig(), **model))


@pytest.mark.parametrize(
    ("fields", "backend", "loading", "reason"),
    [
        ({"convolutions": "plain"}, "cpu", "", "model.convolutions is plain"),
        ({"architecture": "wide"}, "cpu", "", "a WideResNet has none"),
        ({"dtype": "bfloat16"}, "cpu", "", "they compute in float32, and .* is bfloat16"),
        ({}, "gpu", "", "they run on a CPU"),
        ({}, "cpu", "the C++ compiler is ill", r"the C\+\+ compiler is ill"),
        ({}, "cpu", "", ""),
    ],
)
def test_obstacles(monkeypatch, fields, backend, loading, reason):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(kernels, "load", lambda: kernels.Library(0 if loading else LANES, loading))
    config = config_of(**fields)
    line = rf"convolutions: plain JAX \(.*{reason}\)" if reason else "convolutions: native"
    assert re.fullmatch(line, kernels.describe(config))
    assert kernels.network(config).lanes == (0 if reason else LANES)
    wanted = config_of(**{"convolutions": "native"} | fields)
    if reason and "convolutions" not in fields:
        refusal = rf"^model\.convolutions: native ones cannot be had: .*{reason}$"
        with pytest.raises(ConfigError, match=refusal):
            kernels.network(wanted)
    else:
        assert kernels.network(wanted).lanes == (0 if reason else LANES)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def registered(monkeypatch):
    """The libraries that JAX would know; it takes in only one a process."""
    contents = []

    def register(path):
        contents.append(path.read_bytes())
        return LANES

    monkeypatch.setattr(kernels, "_register", register)
    return contents


class Compiler(NamedTuple):
    """What stands in for one: it writes down each call, and copies what it should compile."""

    calls: Path
    folder: Path  # of its libraries

    @property
    def compilations(self) -> int:
        return sum("-shared" in call for call in self.calls.read_text().splitlines())

    @property
    def library(self) -> Path:
        (path,) = self.folder.iterdir()
        return path


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    (tmp_path / "product").write_bytes(os.urandom(100_000))
    text = f"""cd {tmp_path}
echo "$@" >> calls
for last; do :; done
case "$*" in *-shared*) cp product "$last" ;; *) echo "#define PROCESSOR 1" ;; esac"""
    monkeypatch.setenv("CXX", script(tmp_path / "c++", text))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return Compiler(tmp_path / "calls", tmp_path / "home" / "cifar_jax" / "kernels")


def test_compiles_once(stand_in, registered):
    assert [load().missing, load().missing] == ["", ""]
    assert stand_in.compilations == 1
    assert registered == [stand_in.library.read_bytes()] * 2
    assert len(registered[0]) == 100_000


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_library_is_compiled_again(stand_in, registered, damage):
    load()
    whole = stand_in.library.read_bytes()
    broken = {
        "truncated": whole[:50_000],
        "flipped": whole[:50_000] + bytes([whole[50_000] ^ 1]) + whole[50_001:],
        "empty": b"",
    }[damage]
    stand_in.library.write_bytes(broken)
    assert load() == (LANES, "")
    assert stand_in.compilations == 2
    assert registered == [whole] * 2
    assert stand_in.library.read_bytes() == whole


def test_a_damaged_library_that_another_process_removes_first(stand_in, registered, monkeypatch):
    load()
    stand_in.library.write_bytes(b"")
    name_of = kernels._name

    def name_and_remove(key, library):
        name = name_of(key, library)
        library.unlink() if not library.stat().st_size else None
        return name

    monkeypatch.setattr(kernels, "_name", name_and_remove)
    assert load() == (LANES, "")
    assert stand_in.compilations == 2


def test_a_folder_that_cannot_be_written(stand_in, registered, tmp_path):
    (tmp_path / "home").write_text("a file")
    assert [load().missing, load().missing] == ["", ""]
    assert stand_in.compilations == 2
    assert len(registered) == 2
    assert (tmp_path / "home").read_text() == "a file"


def test_a_user_without_a_home(stand_in, registered, monkeypatch):
    def homeless(*_, **__):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(kernels.platformdirs, "user_cache_path", homeless)
    assert load() == (LANES, "")
    assert stand_in.compilations == 1


def test_what_a_library_depends_on(stand_in, registered, monkeypatch, tmp_path):
    """The flags, the sources, the compiler and the processor; none replaces another's."""
    load()
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "FLAGS", (*kernels.FLAGS, "-g"))
        load()
    for source in ("SOURCE", "HEADER"):
        (tmp_path / source).write_bytes(getattr(kernels, source).read_bytes() + b"\n")
        with monkeypatch.context() as patch:
            patch.setattr(kernels, source, tmp_path / source)
            load()
    assert stand_in.compilations == 4
    text = Path(os.environ["CXX"]).read_text().replace("PROCESSOR 1", "PROCESSOR 2")
    other = script(tmp_path / "other", text)
    monkeypatch.setenv("CXX", f"{shutil.which('env')} '{other}'")  # words, as a shell reads them
    load()
    assert stand_in.compilations == len(list(stand_in.folder.iterdir())) == 5
    load()
    assert stand_in.compilations == 5
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    load()
    assert stand_in.compilations == 5


MESSAGE = """echo "In file included from somewhere:
native.cc:3:1: error: 'kludge' was not declared
native.cc:4:1: error: another" >&2; exit 1"""


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("no-such-compiler", "the C++ compiler no-such-compiler: No such file or directory"),
        ("false", "the C++ compiler false failed: no message"),
        ("'unclosed", "CXX"),
    ],
)
def test_without_a_compiler(registered, monkeypatch, tmp_path, words, reason):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", words)
    assert reason in load().missing
    assert registered == list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["", " "])
def test_the_compiler_where_none_is_named(monkeypatch, words):
    def tell(words):
        raise kernels.KernelsError(words[0])

    monkeypatch.setenv("CXX", words)
    monkeypatch.setattr(kernels, "_run", tell)
    assert load() == (0, "c++")


def test_a_compiler_that_complains(registered, monkeypatch, tmp_path):
    """At the source alone: its first error is the reason, in one line."""
    ill = script(tmp_path / "ill", f'case "$*" in *-shared*) {MESSAGE} ;; esac')
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CXX", ill)
    complaint = "native.cc:3:1: error: 'kludge' was not declared"
    assert load() == (0, f"the C++ compiler {ill} failed: {complaint}")
    Path(ill).chmod(stat.S_IRUSR)
    assert load() == (0, f"the C++ compiler {ill}: Permission denied")
    assert registered == []


def test_the_command_refuses_in_one_line(tmp_path):
    """Before it loads an image or makes a folder for the run."""
    words = ["--config", "configs/smoke.py", "--workdir", str(tmp_path / "run")]
    words += ["--model.convolutions", "native"]
    done = subprocess.run(
        [sys.executable, "main.py", *words],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "CXX": "no-such-c++"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "main.py: model.convolutions: native ones cannot be had: "
        "the C++ compiler no-such-c++: No such file or directory\n"
    )
    assert done.stdout == ""


COMPUTE = """
import jax
from cifar_jax.models import SeparableResNet
from cifar_jax.runtime import kernels
lanes, missing = kernels.load()
assert lanes and not missing, missing
model = SeparableResNet(stem=1, stages=(1,), blocks=1, lanes=lanes)
images = jax.numpy.ones((1, 2, 2, 3))
print(model.apply(model.init(jax.random.key(0), images), images).sum())
"""


def test_two_processes_at_once(compiler, library, tmp_path, monkeypatch):
    """Both compile, for as long as a second here, and both can compute."""
    folder = platformdirs.user_cache_path("cifar_jax", appauthor=False) / "kernels"
    product = kernels._find(folder, kernels._key(compiler))
    assert product is not None
    text = f"""for last; do :; done
case "$*" in *-shared*) sleep 1; cp {product} "$last" ;; esac"""
    monkeypatch.setenv("CXX", script(tmp_path / "c++", text))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    words = [sys.executable, "-c", COMPUTE]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert printed[0] == printed[1] != ""
    (kept,) = (tmp_path / "home" / "cifar_jax" / "kernels").iterdir()
    assert kept.read_bytes() == product.read_bytes()
