"""State dicts of the original PyTorch network, in safetensors or, with torch, in its own format."""

import hashlib
import io
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from cifar_jax import models
from cifar_jax.data import CLASS_NAMES
from cifar_jax.errors import ConfigError, one_line
from cifar_jax.files import describe_failure
from cifar_jax.interop import from_torch_state_dict, network_of, to_torch_state_dict
from cifar_jax.runtime.pretrained import Pretrained, WeightsError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # a state dict inside of others
SAFE = (2, 10)  # torch, without CVE-2025-32434 and CVE-2026-24747
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile


class State(NamedTuple):
    """What a file holds.

    Attributes:
      variables: float32, all finite.
      model: whose they are.
      entry: of the file that held the state dict; empty if the file is one.
      normalisation: "mean" and "std" that the file says its images need; empty if it does not.
      sha256: of the file.
    """

    variables: dict[str, Any]
    model: models.SeparableResNet
    entry: str
    normalisation: dict[str, list[float]]
    sha256: str


def serialize(net: Pretrained, ending: str) -> bytes:
    """Turn a network into a state dict that ``load_state_dict(strict=True)`` takes.

    Args:
      net: the network.
      ending: ".safetensors", whose metadata say the normalisation; else torch's format.

    Returns:
      The content of a file.

    Raises:
      ConfigError: for another architecture or strides, or when torch is needed and not there or
        too old.
    """
    if not isinstance(net.model, models.SeparableResNet):
        raise ConfigError(
            "--format torch: model.architecture must be separable, which the original network "
            f"has, not {net.config.model.architecture}"
        )
    if net.model.halvings < (needed := len(net.model.stages) - 1):
        raise ConfigError(
            f"--format torch: model.halvings must be at least {needed}, as the original network "
            f"has, not {net.model.halvings}"
        )
    arrays = to_torch_state_dict(net.variables)
    if ending == ".safetensors":
        config = net.config.augment
        told = {"mean": config.mean, "std": config.std, "classes": CLASS_NAMES}
        return safetensors.save(
            arrays, {"format": "pt"} | {name: json.dumps(value) for name, value in told.items()}
        )
    torch, buffer = _torch(f"--output with {ending}"), io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, buffer)
    return buffer.getvalue()


def load(path: Path) -> State:
    """Read a state dict; of a pickle, tensors and containers alone are read, nothing is run.

    Args:
      path: a file in safetensors if its name says so, else of ``torch.save``.

    Raises:
      ConfigError: when torch is needed and not there, or too old.
      WeightsError: in one line, when it cannot be read, or is not of the original's network.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(describe_failure(path, error, what="cannot be read")) from error
    normalisation: dict[str, list[float]] = {}
    try:
        if path.suffix == ".safetensors":
            found: Any = _load(content)
            normalisation = _normalisation(content)
        else:
            found = _unpickle(content, path)
        entry, arrays = _unwrap(found)
        with np.errstate(over="ignore"):  # what float32 has not is infinite then, and refused
            variables, model = from_torch_state_dict(arrays), network_of(arrays)
    except (SafetensorError, ValueError, RecursionError) as error:  # the last: metadata without end
        raise WeightsError(f"{path}: {one_line(error)}") from error
    for name, array in arrays.items():
        with np.errstate(over="ignore"):
            if not np.isfinite(np.asarray(array, np.float32)).all():
                raise WeightsError(f"{path}: {name} must be finite, and has a NaN or an infinity")
        if name.endswith("running_var") and np.any(np.asarray(array) < 0):
            raise WeightsError(f"{path}: {name} must be variances, and has a negative number")
    return State(variables, model, entry, normalisation, hashlib.sha256(content).hexdigest())


def _load(content: bytes) -> dict[str, np.ndarray]:
    try:
        return safetensors.load(content)
    except KeyError as error:
        raise ValueError(f"its arrays must be of a type that numpy has, not {error}") from error


def _torch(what: str) -> ModuleType:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError) as error:  # there, and broken
        raise ConfigError(
            f"{what} needs torch: pip install torch, or take a .safetensors file"
        ) from error
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < SAFE:
        raise ConfigError(
            f"{what} needs torch {'.'.join(map(str, SAFE))} or newer, not {torch.__version__}: "
            "pip install -U torch, or take a .safetensors file"
        )
    return torch


def _unpickle(content: bytes, path: Path) -> Any:
    """Read with torch's unpickler for weights, which refuses all that could run code."""
    torch = _torch(str(path))

    def to_numpy(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: to_numpy(inner) for name, inner in value.items()}
        if not isinstance(value, torch.Tensor):
            return value
        return (value.detach().float() if value.is_floating_point() else value.detach()).numpy()

    try:
        with warnings.catch_warnings(action="ignore"):
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return to_numpy(found)
    except Exception as error:  # strangers' bytes can fail in any way
        raise WeightsError(
            f"{path}: torch.load(weights_only=True) must be able to read it: it is damaged, or "
            f"holds more than tensors, of which nothing is run ({type(error).__name__})"
        ) from error


def _normalisation(content: bytes) -> dict[str, list[float]]:
    """Mean and std of a file that :func:`serialize` wrote; nothing of others."""
    length = int.from_bytes(content[:8], "little")
    told = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    found = {}
    for name in ("mean", "std"):
        if name in told:
            try:
                found[name] = json.loads(told[name])
            except ValueError:
                found[name] = told[name]
            if not isinstance(found[name], list):
                wrong = f"{found[name]!s:.40}"
                raise ValueError(f"{name} in its metadata must be a list of numbers, not {wrong}")
    return found


def _unwrap(found: Any) -> tuple[str, dict[str, np.ndarray]]:
    """The state dict inside of what training scripts save, without the prefixes of wrappers."""
    if not isinstance(found, Mapping):
        raise ValueError(f"must be a state dict, not {type(found).__name__}")
    entry = next((name for name in WRAPPERS if isinstance(found.get(name), Mapping)), "")
    arrays = dict(found[entry] if entry else found)
    for name, array in arrays.items():
        if not isinstance(name, str) or getattr(array, "dtype", np.dtype(object)).kind not in "fiu":
            wanted = f"must be a state dict, or have one as {', '.join(WRAPPERS)}"
            raise ValueError(f"{wanted}; its {name} is no array of numbers")
    while arrays and (prefix := next((p for p in PREFIXES if _all_start(arrays, p)), "")):
        arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return entry, arrays


def _all_start(names: Mapping[str, Any], prefix: str) -> bool:
    return all(name.startswith(prefix) for name in names)
