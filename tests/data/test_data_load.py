"""The one entrance: which source is taken, what is cached, who waits, and what is said offline."""

import errno
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cifar_jax.config import Config
from cifar_jax.data import SOURCES, DataError, batches, cache, load, load_cifar10, probe
from cifar_jax.data.dataset import Dataset, Unavailable, sha256
from cifar_jax.data.load import LOCK_NAME, exclusive
from cifar_jax.files import WriteError
from cifar_jax.runtime.inputs import load_dataset


@pytest.fixture
def sources(small, monkeypatch):
    """Replaces all sources but the cache by ones that are absent; returns the table."""
    hashes = {name: sha256(array) for name, array in small._asdict().items()}
    verify = cache.verify
    monkeypatch.setattr(cache, "verify", lambda dataset, _: verify(dataset, hashes))

    def absent(data_dir, report):
        raise Unavailable("absent")

    def unreachable(data_dir):
        raise Unavailable("unreachable")

    for name, source in load._SOURCES.items():
        if name != "cache":
            check = unreachable if source.check else None
            monkeypatch.setitem(load._SOURCES, name, load._Source(absent, check))
    return load._SOURCES


def gives(dataset: Dataset, check=None):
    return load._Source(lambda data_dir, report: dataset, check)


def test_auto_takes_the_first_that_works_and_caches_it_once(tmp_path, sources, small, monkeypatch):
    monkeypatch.setitem(sources, "mirror", gives(small, lambda data_dir: None))
    lines: list[str] = []
    assert load_cifar10(tmp_path / "new" / "data", report=lines.append) is small
    assert lines == [
        f"cifar10: cache: no {tmp_path}/new/data/cifar10.npz",
        "cifar10: archive: absent",
        "cifar10: tfds: absent",
        "cifar10: loaded from mirror",
        f"cifar10: cached in {tmp_path}/new/data/cifar10.npz",
    ]
    monkeypatch.setitem(sources, "mirror", gives(small, pytest.fail))
    lines.clear()
    again = load_cifar10(str(tmp_path / "new" / "data"), report=lines.append)
    assert lines == []  # it takes no time
    for found, expected in zip(again, small, strict=True):
        np.testing.assert_array_equal(found, expected, strict=True)


def test_order():
    assert (
        *("auto", "cache", "archive", "tfds", "mirror", "huggingface", "download", "synthetic"),
    ) == SOURCES


def test_damaged_cache_is_kept_aside_and_rebuilt(tmp_path, sources, small, monkeypatch):
    path = cache.save(tmp_path, small)
    damaged = bytearray(path.read_bytes())
    damaged[5000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"^cache: \S+cifar10\.npz is damaged: "):
        load_cifar10(tmp_path, "cache")
    monkeypatch.setitem(sources, "archive", gives(small))
    lines: list[str] = []
    load_cifar10(tmp_path, report=lines.append)
    assert sum("is damaged" in line for line in lines) == 1
    assert (tmp_path / "cifar10.npz.damaged").read_bytes() == damaged
    load_cifar10(tmp_path, "cache")
    path.write_text("another file")
    load_cifar10(tmp_path, report=lines.append)
    assert (tmp_path / "cifar10.npz.damaged").read_bytes() == damaged
    assert (tmp_path / "cifar10.npz.damaged.2").read_text() == "another file"


def test_explicit_source(tmp_path, sources, small, monkeypatch):
    path = cache.save(tmp_path, small)
    stamp = path.stat().st_mtime_ns
    with pytest.raises(DataError, match=r"^tfds: absent$"):  # though there is a cache
        load_cifar10(tmp_path, "tfds")
    with pytest.raises(DataError, match=r"^mirror: unreachable$"):
        load_cifar10(tmp_path, "mirror")
    monkeypatch.setitem(sources, "tfds", gives(small))
    assert load_cifar10(tmp_path, "tfds") is small
    assert path.stat().st_mtime_ns == stamp  # a good cache is left as it is
    path.unlink()
    load_cifar10(tmp_path, "tfds")
    assert path.exists()
    with pytest.raises(DataError, match=r"source must be one of auto, .*, not 'kaggle'"):
        load_cifar10(tmp_path, "kaggle")


def test_a_run_fetches_once(tmp_path, sources, small, monkeypatch):
    """Whatever source its config names, the next session finds the cache."""
    fetched = []

    def fetch(data_dir, report):
        fetched.append(data_dir)
        return small

    monkeypatch.setitem(sources, "mirror", load._Source(fetch, lambda data_dir: None))
    config = Config().replace(data={"data_dir": str(tmp_path), "source": "mirror"})
    for _ in range(2):
        found = load_dataset(config, report=print)
        np.testing.assert_array_equal(found.test_labels, small.test_labels)
    assert len(fetched) == 1
    load_dataset(config, report=print, anew=True)
    assert len(fetched) == 2


def test_a_cache_without_rights_is_named(tmp_path, sources, small, monkeypatch):
    path = cache.save(tmp_path, small)

    def refuse(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(DataError, match=f"; also: cache: {path} cannot be read: Permission"):
        load_cifar10(tmp_path)
    assert path.exists()


def test_a_check_that_fails_in_its_own_way(tmp_path, sources):
    def undecodable(data_dir):
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    asked = probe.Probe(lambda: undecodable(tmp_path))
    with pytest.raises(Unavailable, match="UnicodeDecodeError: 'utf-8' codec"):
        asked.require()


def test_failure_of_the_system_is_one_line(tmp_path, sources, monkeypatch):
    def full(data_dir, report):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(sources, "archive", load._Source(full))
    with pytest.raises(DataError, match=r"^archive: \[Errno 28\] No space left on device$"):
        load_cifar10(tmp_path, "archive")
    with pytest.raises(DataError, match=r"run again; also: archive: \[Errno 28\] No space"):
        load_cifar10(tmp_path)


def test_what_cannot_be_written_is_told_in_the_end(tmp_path, sources, small, monkeypatch):
    def full(data_dir, report):
        raise WriteError("x.part: cannot be written: No space left on device: 9 free")

    monkeypatch.setitem(sources, "huggingface", load._Source(full, lambda data_dir: None))
    with pytest.raises(DataError, match=r"^huggingface: x\.part: .*: 9 free$"):
        load_cifar10(tmp_path)
    monkeypatch.setitem(sources, "download", gives(small, lambda data_dir: None))
    assert load_cifar10(tmp_path) is small  # which takes less room


def test_folder_that_cannot_be_written_to(tmp_path, sources, small, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setitem(sources, "archive", gives(small))
    lines: list[str] = []
    assert load_cifar10(tmp_path / "file" / "data", report=lines.append) is small
    assert any("cannot be written to" in line for line in lines)
    assert any("not cached" in line for line in lines)


def test_hanging_check_is_given_up_in_time(tmp_path, sources, small, monkeypatch):
    hang = threading.Event()
    for name in ("mirror", "huggingface", "download"):
        monkeypatch.setitem(sources, name, gives(small, lambda data_dir: hang.wait(20)))
    monkeypatch.setattr(load, "Probe", lambda check: probe.Probe(check, seconds=0.3))
    start = time.monotonic()
    with pytest.raises(DataError, match="cannot be fetched"):
        load_cifar10(tmp_path)
    assert time.monotonic() - start < 10  # at the same time, not one after another
    hang.set()


OFFLINE = """
import sys
from cifar_jax.data import DataError, download, load_cifar10
download.URL = "http://127.0.0.1:9/cifar-10-binary.tar.gz"
try:
    load_cifar10(sys.argv[1])
except DataError as error:
    print(error)
assert not {"jax", "tensorflow_datasets", "pyarrow", "PIL"} & sys.modules.keys()
"""


def test_offline_message(tmp_path):
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HOME": str(tmp_path), "PATH": ""}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "data"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert time.monotonic() - start < 10
    message = done.stdout.removesuffix("\n")
    assert "\n" not in message
    for part in (batches.ARCHIVE_NAME, batches.ARCHIVE_SHA256, f"into {tmp_path}/data"):
        assert part in message


def _hold(folder: Path, started, release) -> None:
    with exclusive(folder, lambda line: None):
        started.set()
        release.wait(60)


@pytest.mark.parametrize("dies", [False, True])
def test_the_second_process_waits_and_finds_the_cache(tmp_path, sources, small, dies):
    context = multiprocessing.get_context("spawn")
    started, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, started, release))
    holder.start()
    assert started.wait(60)
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        if "waiting" in line:  # what the other process does meanwhile
            cache.save(tmp_path, small)
            if dies:
                holder.kill()
            else:
                release.set()

    load_cifar10(tmp_path, report=report)
    holder.join()
    host, path = os.uname().nodename, tmp_path / LOCK_NAME
    assert lines == [
        f"cifar10: waiting for process {holder.pid} on {host} that holds {path}",
        "cifar10: loaded from cache",
    ]
