"""Several processes that train one run: how they meet, and what they agree on.

All of them do the same; the arrays of the loop are spread over the devices of all. The first one's
workdir is the run's. The others begin with a copy of it in a temporary folder, which is thrown
away: no file system has to be shared.
"""

import contextlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cifar_jax.config import Config, from_dict, to_dict
from cifar_jax.errors import CifarJaxError, ConfigError, one_line
from cifar_jax.runtime import environment
from cifar_jax.runtime.compatibility import changes, differences
from cifar_jax.runtime.signals import Stop
from cifar_jax.runtime.workdir import Workdir

NEEDED = ("config.json", "metrics.jsonl", "log.txt", "results.json", "checkpoints")
TIMEOUT = 300  # seconds in which all processes must have come
HEARTBEAT = 30  # seconds without a sign of a process after which the others end


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Meet the other processes; before jax looks for devices.

    Args:
      coordinator: address and port of the first process; None to take all three from SLURM, Open
        MPI or another launcher that jax knows.
      processes: how many there are.
      process: which one this is, from 0.

    Raises:
      ConfigError: when they do not meet, or only some of the three are given.
    """
    given = [coordinator, processes, process]
    if None in given and given != [None] * 3:
        raise ConfigError("--coordinator, --processes and --process belong together")
    if coordinator is not None and processes is not None and process is not None:
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise ConfigError(f"--coordinator must be HOST:PORT, not {coordinator!r}")
        if processes < 1:
            raise ConfigError(f"--processes must be at least 1, not {processes}")
        if not 0 <= process < processes:
            raise ConfigError(f"--process must be from 0 to {processes - 1}, not {process}")
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=TIMEOUT,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"the processes do not meet: {one_line(error)}") from error


def is_first() -> bool:
    """Whether this process is the one that writes and speaks; a single one is."""
    return jax.process_index() == 0


def asked_to_stop(stop: Stop) -> bool:
    """Whether any of the processes was asked to stop; all must ask this at the same time.

    Then ``stop.signum`` is set in all of them, so that they stop after the same step.
    """
    if jax.process_count() > 1:
        from jax.experimental.multihost_utils import process_allgather

        signum = int(np.asarray(process_allgather(np.int32(stop.signum or 0))).max())
        if signum:  # else leave it alone: one may have come since
            stop.signum = signum
        return signum > 0
    return stop.signum is not None


def of_first(value: Any) -> Any:
    """What the first process has for a JSON value, in all; each must call it at the same time."""
    if jax.process_count() == 1:
        return value
    return json.loads(_broadcast(json.dumps(value).encode()))


def require_same(config: Config) -> None:
    """Refuse processes of one run with other configs, code or jax; all must call it.

    Where each finds the data set may differ.

    Raises:
      ConfigError: the same in all of them, when one is not as the first.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental.multihost_utils import process_allgather

    known = environment.versions()
    own = {name: known[name] for name in ("code", "jax")}
    first = of_first({"versions": own, "config": to_dict(config)})
    found = differences(first["versions"], own)
    if not found:  # of another code it might have fields that are not known here
        there = from_dict(first["config"])
        found = [str(c) for c in changes(there, config) if c.field != "data.data_dir"]
    others = np.flatnonzero(np.asarray(process_allgather(np.int32(bool(found))))).tolist()
    if others:
        told = _broadcast(", ".join(found).encode(), others[0]).decode()
        raise ConfigError(f"process {others[0]} must have what process 0 has: {told}")


@contextlib.contextmanager
def own_workdir(path: Path) -> Iterator[Path]:
    """Give each process a workdir with the same content; see above.

    Args:
      path: the run's.

    Yields:
      ``path`` in the first process, and in each other a folder that is removed after the block.

    Raises:
      ConfigError: in all of them, when the first cannot use ``path``.
    """
    if jax.process_count() == 1:
        yield path
        return
    problem, content = "", b""
    if is_first():
        try:
            with Workdir(path).claimed():
                content = _pack(path)
        except (CifarJaxError, OSError) as error:  # the others wait to hear of it
            problem = one_line(error)
    if problem := of_first(problem):
        raise ConfigError(problem)
    content = _broadcast(content)
    if is_first():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="cifar_jax-") as folder:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


def _pack(path: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in NEEDED:
            if (path / name).exists():
                archive.add((path / name).resolve(), name)  # it may be a link
    return content.getvalue()


def _broadcast(content: bytes, source: int = 0) -> bytes:
    """Bytes of one process, in all."""
    from jax.experimental.multihost_utils import broadcast_one_to_all

    parts = np.array(divmod(len(content), 2**31), np.int32)  # jax has no int64 here
    is_source = jax.process_index() == source
    high, low = map(int, np.asarray(broadcast_one_to_all(parts, is_source)))
    padded = np.zeros(2**31 * high + low, np.uint8)
    if is_source:
        padded[:] = np.frombuffer(content, np.uint8)
    return np.asarray(broadcast_one_to_all(padded, is_source)).astype(np.uint8).tobytes()
