"""What the tests of the compilation cache share."""

from pathlib import Path

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache.compilation_cache import reset_cache

UNSET = {  # jax, where nobody has said anything
    "jax_compilation_cache_dir": None,
    "jax_compilation_cache_max_size": -1,
    "jax_persistent_cache_min_compile_time_secs": 1.0,
}


def forget() -> None:
    """What a new process would not know."""
    reset_cache()
    jax.clear_caches()


def refuse(line: str) -> None:
    raise AssertionError(line)


def entries(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*-cache")}


def compute(factor: float, value: float = 3.0) -> float:
    """Compiles one program for each factor."""
    return float(jax.jit(lambda x: jnp.sin(x) * factor)(jax.device_put(jnp.float32(value))))
