"""The entry point to the data set: tries the sources in turn, and caches what it gets."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cifar_jax.data import archive, batches, cache, download, huggingface, mirror, prepared
from cifar_jax.data.dataset import DataError, Dataset, Report, Unavailable, expanded
from cifar_jax.data.probe import Probe
from cifar_jax.data.synthetic import make_synthetic
from cifar_jax.files import WriteError, locked, set_aside


class _Source(NamedTuple):
    load: Callable[[Path, Report], Dataset]
    check: Callable[[Path], None] | None = None  # whether it can be reached, if it is elsewhere


# Fastest first. The official host comes last: it serves less than 0.1 MB/s.
_SOURCES = {
    "cache": _Source(cache.load),
    "archive": _Source(archive.load),
    "tfds": _Source(prepared.load),
    "mirror": _Source(mirror.load, mirror.check),
    "huggingface": _Source(huggingface.load, huggingface.check),
    "download": _Source(download.load, download.check),
}

SOURCES = ("auto", *_SOURCES, "synthetic")
"""What ``source`` may be."""

REMOTE = tuple(name for name, source in _SOURCES.items() if source.check)
"""Those that fetch."""

LOCK_NAME = ".cifar10.lock"


def load_cifar10(
    data_dir: str | os.PathLike[str],
    source: str = "auto",
    *,
    report: Report = lambda line: None,
) -> Dataset:
    """Loads CIFAR-10, byte for byte the same whatever the source.

    Whatever is not from the cache is cached in ``data_dir/cifar10.npz``. Of several processes
    that need the data set at the same time one fetches it and the others wait.

    Args:
      data_dir: folder of the cache and of the user's own archive; made if need be.
      source: one of `SOURCES`. "auto" takes the first that works; "synthetic" is another, generated
        data set of 5,000 training and 1,000 test images and touches no files.
      report: told what takes time or goes wrong: each source tried, and progress; nothing where
        "auto" or "cache" finds a good cache.

    Returns:
      Four uint8 arrays in the official order (see `Dataset`), their SHA-256 checked.

    Raises:
      DataError: the data set cannot be had; one line that says why and what to do.

    References:
      Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    if source not in SOURCES:
        raise DataError(f"source must be one of {', '.join(SOURCES)}, not {source!r}")
    if source == "synthetic":
        return make_synthetic()
    folder = expanded(data_dir).absolute()
    if source in ("auto", "cache"):
        try:
            return _attempt("cache", folder, lambda line: None)
        except DataError:
            if source == "cache":
                raise
    with exclusive(folder, report):
        return _fetch(folder, source, report)


@contextlib.contextmanager
def exclusive(data_dir: Path, report: Report) -> Iterator[None]:
    """Holds the folder's lock, waiting for the process that has it.

    A folder that cannot be written to needs no lock: nothing can be fetched into it.

    Args:
      data_dir: the folder, made if need be.
      report: told who is waited for.

    Yields:
      Nothing.
    """
    path = data_dir / LOCK_NAME
    with contextlib.ExitStack() as stack:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(
                locked(path, lambda who: report(f"cifar10: waiting for {who} that holds {path}"))
            )
        except OSError as error:
            report(
                f"cifar10: {path} cannot be written to or locked ({error.strerror}); "
                "going on without"
            )
        yield


def _fetch(folder: Path, source: str, report: Report) -> Dataset:
    """Loads from one source, or from the first that works, and writes the cache."""
    failures: list[DataError] = []
    probes: dict[str, Probe] = {}
    for name in _SOURCES if source == "auto" else (source,):
        if _SOURCES[name].check and not probes:  # nothing here: ask all others at the same time
            probes = {
                other: Probe(functools.partial(check, folder))
                for other, (_, check) in _SOURCES.items()
                if check and source in ("auto", other)
            }
        try:
            dataset = _attempt(name, folder, report, probes.get(name))
        except DataError as error:
            failures.append(error)
            report(f"cifar10: {error}")
            continue
        if name != "cache":
            _write_cache(folder, dataset, report)
        return dataset
    # a disk that can be put right comes before the hosts that cannot be reached
    unwritten = [error for error in failures if isinstance(error.__cause__, WriteError)]
    if source != "auto" or unwritten:
        raise (unwritten or failures)[0]
    raise DataError(_advice(folder, failures))


def _attempt(name: str, folder: Path, report: Report, probe: Probe | None = None) -> Dataset:
    """Loads from one source; any failure to do so is a `DataError` that names the source."""
    try:
        if probe:
            probe.require()
        dataset = _SOURCES[name].load(folder, report)
    except (DataError, OSError) as error:
        kind = Unavailable if isinstance(error, Unavailable) else DataError
        raise kind(f"{name}: {error}") from error
    report(f"cifar10: loaded from {name}")
    return dataset


def _write_cache(folder: Path, dataset: Dataset, report: Report) -> None:
    """Writes the cache, unless a good one is there or the folder does not allow it."""
    try:
        cache.load(folder, report)
    except DataError as error:
        try:
            if isinstance(error, Unavailable) and (folder / cache.NAME).exists():
                report(f"cifar10: not cached: {error}")  # it may be a good one
                return
            if not isinstance(error, Unavailable):
                aside = set_aside(folder / cache.NAME, "damaged")
                report(f"cifar10: the damaged cache is kept as {aside}")
            report(f"cifar10: cached in {cache.save(folder, dataset)}")
        except OSError as refusal:
            report(f"cifar10: not cached: {refusal}")


def _advice(folder: Path, failures: list[DataError]) -> str:
    """One line that says what to put where."""
    unread = [error for error in failures if str(error).startswith(f"cache: {folder / cache.NAME}")]
    damage = [str(e) for e in failures if e in unread or not isinstance(e, Unavailable)]
    return (
        f"CIFAR-10 is not in {folder} and cannot be fetched: put "
        f"{batches.ARCHIVE_NAME} ({batches.ARCHIVE_SIZE:,} bytes, SHA-256 "
        f"{batches.ARCHIVE_SHA256}) into {folder} and run again"
        + (f"; also: {'; '.join(damage)}" if damage else "")
    )
