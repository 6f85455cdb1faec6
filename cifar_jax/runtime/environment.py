"""What a result depends on besides its config: versions, device, and the weights' own hash."""

import ctypes
import hashlib
import importlib.metadata
import os
import platform
import sys
from typing import Any

import jax
import numpy as np

from cifar_jax.state import TrainState

PACKAGES = ("cifar_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # cifar_jax itself, run from a checkout


def device() -> dict[str, Any]:
    """The device that computes.

    Returns:
      platform ("cpu", "gpu"), kind (the model's name), count of devices, and cores this process
      may use.
    """
    devices = jax.local_devices()
    kind = devices[0].device_kind
    return {
        "platform": devices[0].platform,
        "kind": _processor() if devices[0].platform == "cpu" else kind,
        "count": len(devices),
        "cpu_cores": cpu_cores(),
    }


def cpu_cores() -> int | None:
    """The CPU cores that this process may use; None where that is unknown."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def device_line() -> str:
    """One line for people: ``cifar_jax 0.1.0, jax 0.10.2, cpu: AMD EPYC (2 cores)``."""
    version, found = versions(), device()
    size = f"{found['cpu_cores']} cores" if found["platform"] == "cpu" else f"{found['count']} x"
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
