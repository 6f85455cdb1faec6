"""The persistent compilation cache: what one run has compiled, the next one loads.

jax keeps it; here is where it lies, how large it grows, and what the user hears of its troubles.
"""

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import platformdirs
from jax import monitoring

from cifar_jax.errors import one_line
from cifar_jax.runtime import environment

MAX_BYTES = 512 * 2**20  # the programs of a run take 2 to 3 MB on a CPU: more than a hundred runs
MIN_SECONDS = 0.2  # to compile; what takes less is some thirty programs of one operation

TROUBLE = r"Error (?:reading|writing) persistent compilation cache entry|Cache value for key"


def cache_folder() -> Path:
    """The folder in the user's cache folder.

    There is one for each number of CPU cores: XLA splits a program's loops by the cores that it was
    compiled on, and jax's key does not tell them. The processor, the versions and the flags of XLA
    are part of that key.

    Raises:
      RuntimeError: for a user without a home.
    """
    folder = platformdirs.user_cache_path("cifar_jax", appauthor=False)
    return folder / "compiled" / f"{environment.cpu_cores()}-cores"


def enable_compilation_cache(note: Callable[[str], None]) -> None:
    """Use the cache from here on; call it before anything is compiled.

    What the user has set wins: jax's cache directory (``JAX_COMPILATION_CACHE_DIR``, empty for
    none) with all that belongs to it, ``JAX_ENABLE_COMPILATION_CACHE=0``, and each single setting
    (``JAX_COMPILATION_CACHE_MAX_SIZE``, ``JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS``).

    A cache that cannot be read or written stops nothing: the program is compiled, and a damaged
    entry is replaced.

    Args:
      note: called with one line at the first trouble with the cache, in place of jax's warnings.
    """
    own = None
    if jax.config.values["jax_compilation_cache_dir"] is None:
        try:
            own = cache_folder()
        except RuntimeError as error:
            note(f"compiling without the compilation cache: {error}")
            return
        settings = {
            "jax_compilation_cache_dir": str(own),
            "jax_compilation_cache_max_size": MAX_BYTES,
            "jax_persistent_cache_min_compile_time_secs": MIN_SECONDS,
        }
        for name, value in settings.items():
            if name.upper() not in os.environ:
                jax.config.update(name, value)
    warnings.filterwarnings("always", message=TROUBLE)
    warnings.showwarning = _teller(own, note)


@contextlib.contextmanager
def cache_lookups() -> Iterator[list[bool]]:
    """Collect whether each program that is asked for within the block is in the cache, in order."""
    found: list[bool] = []

    def listen(event: str, **_: str | int) -> None:
        if event == "/jax/compilation_cache/compile_requests_use_cache":
            found.append(False)
        elif event == "/jax/compilation_cache/cache_hits":  # the answer to the request before it
            found[-1] = True

    monitoring.register_event_listener(listen)
    try:
        yield found
    finally:
        monitoring.unregister_event_listener(listen)


def _teller(own: Path | None, note: Callable[[str], None]) -> Callable[..., None]:
    """Make a ``warnings.showwarning`` that repairs the own folder and tells the first trouble."""
    show = warnings.showwarning
    told = []

    def showwarning(message: Warning | str, *details: object, **more: object) -> None:
        text = one_line(message)
        if not re.match(TROUBLE, text):
            show(message, *details, **more)  # type: ignore[arg-type]  # as they came
            return
        if own and "Timeout" not in text and (named := re.search(r"entry for '(.+?)'", text)):
            _remove_damaged(own, named[1])
        if not told:
            told.append(text)
            note(f"compiling without the compilation cache: {text:.400}")

    return showwarning


def _remove_damaged(folder: Path, program: str) -> None:
    """Remove the entries of a program, and those without a stamp: their writer came to no end.

    jax replaces no entry that is there, and jax 0.10 writes none beside one without a stamp.
    """
    with contextlib.suppress(OSError):  # what cannot be removed stays; the run is more important
        for entry in folder.glob("*-cache"):
            stamp = entry.with_name(entry.name.removesuffix("-cache") + "-atime")
            if entry.name.startswith(f"{program}-") or not stamp.exists():
                entry.unlink()
                stamp.unlink(missing_ok=True)
