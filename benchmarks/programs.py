"""A compiled program, and what the compiler says of it."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from cifar_jax.runtime import environment as project
from cifar_jax.runtime.compilation_cache import cache_lookups


class Program(NamedTuple):
    """A compiled program, and what the compiler says of it; loops count once in flops and bytes."""

    run: Callable[..., Any]
    compile_seconds: float
    cached: bool  # loaded from the compilation cache
    temp_bytes: int  # that it needs besides its arguments and results
    flops: float
    bytes_accessed: float
    kernels: int  # fusions and library calls, those of all branches

    def costs(self) -> dict[str, Any]:
        """All of it but the program, JSON-ready."""
        return {name: value for name, value in self._asdict().items() if name != "run"}


def compile_program(
    function: Callable[..., Any], *arguments: Any, donate: tuple[int, ...] = ()
) -> Program:
    """Trace and compile a function for these arguments."""
    started = time.perf_counter()
    with cache_lookups() as found:
        compiled = jax.jit(function, donate_argnums=donate).lower(*arguments).compile()
    seconds = time.perf_counter() - started
    project.return_freed_memory()
    memory, text = compiled.memory_analysis(), compiled.as_text() or ""
    cost = compiled.cost_analysis() or {}
    return Program(
        compiled,
        seconds,
        any(found[-1:]),
        int(memory.temp_size_in_bytes) if memory else 0,
        float(cost.get("flops", 0.0)),
        float(cost.get("bytes accessed", 0.0)),
        text.count(" fusion(") + text.count(" custom-call("),
    )
