"""The native convolutions: compiled for this processor at their first use, kept in the cache."""

import contextlib
import ctypes
import functools
import hashlib
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import platformdirs

from cifar_jax import models
from cifar_jax.config import Config
from cifar_jax.errors import ConfigError, one_line
from cifar_jax.files import replacing
from cifar_jax.models import native
from cifar_jax.runtime import environment

SOURCE = Path(native.__file__).with_suffix(".cc")
HEADER = SOURCE.with_suffix(".h")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-std=c++17", "-w")


class KernelsError(Exception):
    """Why the native convolutions cannot be had, in one line."""


def network(config: Config) -> models.Network:
    """The network of a config, with the convolutions that ``model.convolutions`` asks for.

    Raises:
      ConfigError: when it asks for native ones that cannot be had.
    """
    reason = obstacle(config)
    if reason and config.model.convolutions == "native":
        raise ConfigError(f"model.convolutions: native ones cannot be had: {reason}")
    return models.from_config(config.model, lanes=0 if reason else load().lanes)


def describe(config: Config) -> str:
    """One line for the log: which convolutions, and why not the native ones."""
    reason = obstacle(config)
    return f"convolutions: plain JAX ({reason})" if reason else "convolutions: native"


def recorded(model: models.Network) -> dict[str, Any]:
    """What checkpoints have of a run's environment, with the convolutions of its network."""
    native = f"native, {model.lanes} lanes" if model.lanes else "plain"
    return {**environment.recorded(), "convolutions": native}


def obstacle(config: Config) -> str:
    """Why this config's network does not convolve natively; empty if it does."""
    if config.model.convolutions == "plain":
        return "model.convolutions is plain"
    if config.model.architecture == "wide":
        return "a WideResNet has none"
    if config.model.dtype != "float32":
        return f"they compute in float32, and model.dtype is {config.model.dtype}"
    if jax.default_backend() != "cpu":
        return "they run on a CPU"
    if jax.device_count() > 1:
        return f"they run on one device, and there are {jax.device_count()}"
    return load().missing


class Library(NamedTuple):
    """What became of the convolutions in C++.

    Attributes:
      lanes: numbers in the vectors that they were compiled for, 0 if they were not.
      missing: why they cannot be had, in one line; empty if they can.
    """

    lanes: int
    missing: str = ""


@functools.cache
def load() -> Library:
    """Compile the convolutions, or find them compiled, and make them known to JAX.

    The compiler is ``$CXX``, or else ``c++``. The library lies in the user's cache folder, under a
    name that tells what it was compiled from, for and by, and its own hash; where the folder
    cannot be written, it is compiled for this process alone.

    Returns:
      The library, or why there is none.
    """
    try:
        compiler = shlex.split(os.environ.get("CXX", "")) or ["c++"]
    except ValueError as error:
        return Library(0, f"CXX: {error}")
    try:
        key = _key(compiler)
        try:
            folder = platformdirs.user_cache_path("cifar_jax", appauthor=False) / "kernels"
            library = _find(folder, key)
            if library is None:
                folder.mkdir(parents=True, exist_ok=True)
                library = _compile(compiler, folder, key)
        except (OSError, RuntimeError):  # no home, or one that cannot be written
            with tempfile.TemporaryDirectory() as own:
                return Library(_register(_compile(compiler, Path(own), key)))
        return Library(_register(library))
    except (KernelsError, OSError, RuntimeError, AttributeError, ValueError) as error:
        return Library(0, one_line(error))


def _key(compiler: list[str]) -> str:
    """A hash of all that the library depends on; the macros tell compiler and processor."""
    macros = _run([*compiler, *FLAGS, "-E", "-dM", "-x", "c++", os.devnull])
    digest = hashlib.sha256(macros)
    for header in sorted(Path(jax.ffi.include_dir()).rglob("*.h")):
        digest.update(header.read_bytes())
    digest.update(SOURCE.read_bytes() + HEADER.read_bytes() + repr(FLAGS).encode())
    return digest.hexdigest()[:16]


def _find(folder: Path, key: str) -> Path | None:
    """The library of that key whose content has the hash in its name."""
    for library in folder.glob(f"{key}-*.so"):
        with contextlib.suppress(OSError):  # another process may remove it first
            if library.name == _name(key, library):
                return library
            library.unlink()
    return None


def _name(key: str, library: Path) -> str:
    return f"{key}-{hashlib.sha256(library.read_bytes()).hexdigest()[:16]}.so"


def _compile(compiler: list[str], folder: Path, key: str) -> Path:
    with tempfile.TemporaryDirectory() as own:
        fresh = Path(own) / "native.so"
        include = f"-I{jax.ffi.include_dir()}"
        _run([*compiler, *FLAGS, include, "-shared", "-fPIC", str(SOURCE), "-o", str(fresh)])
        library = folder / _name(key, fresh)
        with replacing(library) as temporary:
            temporary.write_bytes(fresh.read_bytes())
    return library


def _run(words: list[str]) -> bytes:
    try:
        return subprocess.run(words, capture_output=True, check=True).stdout
    except OSError as error:
        raise KernelsError(f"the C++ compiler {words[0]}: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        what = next((line for line in lines if "error" in line), lines[-1])
        raise KernelsError(f"the C++ compiler {words[0]} failed: {what:.300}") from error


def _register(library: Path) -> int:
    loaded = ctypes.CDLL(str(library))
    for name in native.HANDLERS:
        handler = jax.ffi.pycapsule(getattr(loaded, name))
        jax.ffi.register_ffi_target(f"cifar_jax.{name}", handler, platform="cpu")
    return ctypes.c_int.in_dll(loaded, "cifar_jax_lanes").value
