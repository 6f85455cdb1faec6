"""Sloppiness is an error: strict promotion of dtypes and ranks, and no warnings."""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest

from cifar_jax import cli
from cifar_jax.runtime import compilation_cache as cache
from cifar_jax.runtime import kernels

# programs run once or a few times here: a fifth less time where LLVM optimises nothing
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).parents[1]
LONG = (  # the files that take longest come first: else one worker ends alone with the last of them
    *("test_faults_cluster.py", "test_resume.py", "test_devices.py", "test_together.py"),
    *("test_train_step.py", "test_cli.py", "test_members.py", "test_faults_kill.py"),
    *("test_faults_stop.py", "test_faults_disk.py", "test_sweep.py", "test_native_bits.py"),
    *("test_teacher.py", "test_train.py", "test_readme.py", "test_faults_damage.py"),
    *("test_native.py", "test_search.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first; each file's tests and all other files keep their order."""
    place = {name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A compilation cache for the commands that tests start: never the user's own."""
    folder = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # they compile Python once, too
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
        yield folder


@pytest.fixture(scope="session")
def compilation_cache(compiled: Path) -> Iterator[None]:
    """The same cache for what this process compiles."""
    jax.config.update("jax_compilation_cache_dir", str(compiled))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    yield
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture
def run_here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], compilation_cache: None
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command in this process: each start of Python and its packages takes seconds."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(cache, "enable_compilation_cache", lambda note: None)

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        line = [str(word) for word in words]
        capfd.readouterr()  # what came before
        return subprocess.CompletedProcess(line, cli.main(line), *capfd.readouterr())

    return run


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A user's cache of the tests' own, with the native convolutions where there is a compiler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("home")))
        kernels.load()
        yield


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Let children hear Ctrl-C even where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def compiler() -> list[str]:
    """The C++ compiler, without which a test is skipped."""
    words = shlex.split(os.environ.get("CXX") or "c++")
    if shutil.which(words[0]) is None:
        pytest.skip(f"no C++ compiler {words[0]}")
    return words


@pytest.fixture(scope="session")
def library(user_cache: None, compiler: list[str]) -> int:
    """The native convolutions, known to JAX: their lanes."""
    assert kernels.load().missing == ""
    return kernels.load().lanes
