"""What a result depends on besides its config: code, versions, settings, device; weights' hash."""

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cifar_jax.errors import CifarJaxError, ConfigError
from cifar_jax.state import TrainState

PACKAGES = ("cifar_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
SETTINGS: dict[str, Any] = {  # by which a run's numbers can change, and their defaults
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_random_seed_offset": 0,
    "jax_threefry_partitionable": True,
    "jax_default_matmul_precision": None,
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "",
    "NVIDIA_TF32_OVERRIDE": "",
    "XLA_FLAGS": "",
}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result, and the code's own hash.

    Returns:
      A version by name; "code" is what ``git rev-parse COMMIT:cifar_jax`` says of the commit that
      is running, "unknown" where the package's files cannot be read.
    """
    packages = {name: _version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages, "code": _code()}


def settings() -> dict[str, Any]:
    """The values of :data:`SETTINGS`: fields of ``jax.config``, and environment variables."""
    return {
        name: getattr(jax.config, name) if name.startswith("jax") else os.environ.get(name, "")
        for name in SETTINGS
    }


def recorded() -> dict[str, dict[str, Any]]:
    """What checkpoints and results.json have of it: versions, device and settings."""
    return {"versions": versions(), "device": device(), "settings": settings()}


@functools.cache  # what runs, not what is on the disk when it ends
def _code() -> str:
    try:
        return git_tree(Path(__file__).parents[1])
    except OSError:  # of a file beside ours
        return "unknown"


def git_tree(folder: Path) -> str:
    """The hash that git gives a folder: SHA-1 of names and contents; "" if there is no file.

    Hidden files and Python's bytecode do not count, and no file as executable.

    References:
      Chacon and Straub, Pro Git, https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
    """
    entries = []
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        name = os.fsencode(path.name)
        if path.is_dir():
            if digest := git_tree(path):
                entries.append((name + b"/", b"40000", digest))  # git sorts folders like this
        elif path.is_file():
            entries.append((name, b"100644", _git_object("blob", path.read_bytes())))
    lines = (
        mode + b" " + name.removesuffix(b"/") + b"\0" + bytes.fromhex(digest)
        for name, mode, digest in sorted(entries)
    )
    return _git_object("tree", b"".join(lines)) if entries else ""


def _git_object(kind: str, content: bytes) -> str:
    header = f"{kind} {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # cifar_jax itself, run from a checkout


def device() -> dict[str, Any]:
    """The device that computes.

    Returns:
      platform ("cpu", "gpu"), kind (the model's name), count of devices, and cores this process
      may use; of several processes their number too, and the devices of all.
    """
    devices = jax.local_devices()
    several = {"processes": jax.process_count()} if jax.process_count() > 1 else {}
    kind = devices[0].device_kind
    return {
        "platform": devices[0].platform,
        "kind": _processor() if devices[0].platform == "cpu" else kind,
        "count": jax.device_count(),
        "cpu_cores": cpu_cores(),
        **several,
    }


class OutOfMemory(CifarJaxError):
    """A device with too little memory: names it and the batch size."""


@contextlib.contextmanager
def memory_in_words(field: str, size: int, *, option: bool = True) -> Iterator[None]:
    """Raise OutOfMemory for jax's error about it, which has a page of text.

    Args:
      field: what decides how much is needed: of the config, as "train.batch_size", or an option.
      size: its value.
      option: whether to name the option of the command line for it, or the field.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        text = f"{device()['kind']} is out of memory with {field} {size}"
        if size > 1:
            text += f": try {f'--{field}'.replace('_', '-') if option else field} {size // 2}"
        raise OutOfMemory(text) from error


def loop_memory_in_words(runs: int, batch_size: int) -> contextlib.AbstractContextManager[None]:
    """The same for a loop of several runs, or of one that is left."""
    if runs > 1:
        return memory_in_words("side_by_side", runs)
    return memory_in_words("train.batch_size", batch_size)


def require_device(*, gpu: bool) -> None:
    """Check that jax has a device.

    Args:
      gpu: whether it must be a GPU.

    Raises:
      ConfigError: when it has none; says what it has instead.
    """
    try:
        found = jax.default_backend()
    except (RuntimeError, AssertionError) as error:
        text = f"jax {jax.__version__} has no device"
        if wanted := os.environ.get("JAX_PLATFORMS"):
            text += f" as JAX_PLATFORMS names it, {wanted!r}"
        raise ConfigError(f"{text}: {' '.join(str(error).split()) or 'none was found'}") from error
    if gpu and found != "gpu":
        raise ConfigError(
            f"--require-gpu: jax {jax.__version__} must have a GPU, not {found} only "
            "(pip install -e '.[cuda13]', or '.[cuda12]')"
        )


def cpu_cores() -> int | None:
    """The CPU cores that this process may use; None where that is unknown."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def device_line() -> str:
    """One line for people: ``cifar_jax 0.1.0, jax 0.10.2, cpu: AMD EPYC (2 cores)``."""
    version, found = versions(), device()
    size = f"{found['cpu_cores']} cores" if found["platform"] == "cpu" else f"{found['count']} x"
    if found["platform"] == "cpu" and found["count"] > 1:
        size += f", {found['count']} devices"
    if "processes" in found:
        size += f", {found['processes']} processes"
    return (
        f"cifar_jax {version['cifar_jax']}, jax {version['jax']}, "
        f"{found['platform']}: {found['kind']} ({size})"
    )


def return_freed_memory() -> None:
    """Give back to the system what compiling has freed, some 400 MB: glibc keeps it otherwise."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def weights_sha256(state: TrainState) -> str:
    """SHA-256 of weights, batch statistics and the averages of both.

    Leaves are taken in the order of their names; each counts with its name, dtype and shape.
    """
    digest = hashlib.sha256()
    parts = {"ema": state.ema_variables, "model": state.variables}
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(parts)):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
