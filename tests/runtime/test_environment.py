"""The settings and the hash of the code that a result is of."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import cifar_jax
from cifar_jax.runtime import environment

PACKAGE = Path(cifar_jax.__file__).parent


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def test_settings(monkeypatch):
    flags = "--xla_cpu_enable_fast_math=true"
    for name in ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "NVIDIA_TF32_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)
    assert environment.settings() == environment.SETTINGS
    monkeypatch.setenv("XLA_FLAGS", flags)
    with jax.threefry_partitionable(False), jax.default_matmul_precision("float32"):
        found = environment.recorded()["settings"]
    changed = {"jax_threefry_partitionable": False, "jax_default_matmul_precision": "float32"}
    assert found == environment.SETTINGS | changed | {"XLA_FLAGS": flags}


def test_a_folder_has_the_hash_that_git_gives_it(tmp_path):
    """The expected one is what ``git write-tree`` said of these files."""
    files = {"model.py": "x = 1\n", "model/core.cc": 'print("é")\n', "model/empty.py": ""}
    write(tmp_path, files)
    assert environment.git_tree(tmp_path) == "33b9fe82210b02665010c5a777772d4d030cfe9c"


def test_what_git_does_not_keep_changes_nothing(tmp_path):
    write(tmp_path, {"model.py": "x = 1\n"})
    before = environment.git_tree(tmp_path)
    write(tmp_path, {"__pycache__/a.pyc": "1", "gone/__pycache__/b.pyc": "2", ".hidden": "3"})
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert environment.git_tree(tmp_path) == before
    (tmp_path / "model.py").write_text("x = 2\n", encoding="utf-8")
    assert environment.git_tree(tmp_path) != before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8(tmp_path):
    """What ``git write-tree`` says of an empty file of that name."""
    write(tmp_path, {os.fsdecode(b"caf\xe9.py"): ""})
    assert environment.git_tree(tmp_path) == "782f294c622408ea753b2847e771112222925f6d"


def test_files_that_cannot_be_read_end_no_run(monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    environment._code.cache_clear()
    monkeypatch.setattr(environment, "git_tree", refuse)
    assert environment.versions()["code"] == "unknown"
    environment._code.cache_clear()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_finds_the_hash_of_the_package(tmp_path):
    skipped = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(PACKAGE, tmp_path / "cifar_jax", ignore=skipped)

    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*words: str) -> str:
        command = ["git", "-c", "core.autocrlf=false", *words]
        return subprocess.run(
            command, cwd=tmp_path, env=own, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "--quiet")
    git("add", "cifar_jax")
    assert environment.versions()["code"] == git("write-tree", "--prefix=cifar_jax/")


def test_the_hash_is_of_what_runs(monkeypatch):
    """A file that is edited while a run trains is not the code that trained it."""
    before = environment.versions()
    monkeypatch.setattr(environment, "git_tree", lambda folder: "edited since")
    assert environment.versions() == before
