"""HTTP transfers against a local server: resumed, cut off, ignored, refused, stalled."""

import hashlib
import itertools
import resource
import socket
import time

import pytest

from cifar_jax.data import DataError, transfer
from cifar_jax.data.dataset import Unavailable
from cifar_jax.files import WriteError

BODY = bytes(range(256)) * 2000
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def get(server, tmp_path, monkeypatch):
    """Fetches BODY from the server; returns what was reported."""
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)
    server.content["/file"] = BODY

    def run(path=tmp_path / "file", **options):
        lines: list[str] = []
        options = {"size": len(BODY), "sha256": SHA} | options
        transfer.fetch(f"{server.url}/file", path, report=lines.append, **options)
        assert path.read_bytes() == BODY
        assert not path.with_name("file.part").exists()
        return lines

    return run


@pytest.mark.parametrize("options", [{}, {"size": None, "sha256": None}])
def test_whole_file_with_progress(get, options):
    lines = get(**options)
    assert lines[-1].startswith("cifar10: 0.5/0.5 MB, ")
    assert lines[-1].endswith(" MB/s, ETA 0:00")


def test_server_that_states_no_length(get, server):
    server.sends_length = False
    get()
    get(size=None)


def test_progress_states_rate_and_time_left(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(transfer.time, "monotonic", lambda: clock[0])
    lines: list[str] = []
    progress = transfer._Progress(lines.append, 10_000_000, 170_052_171)
    for half_seconds in range(1, 2 * 60):
        clock[0] = 100 + half_seconds / 2
        progress.update(int(10_000_000 + 1e6 * half_seconds / 2))
    assert lines[:2] == [
        "cifar10: 11.0/170.1 MB, 1.0 MB/s, ETA 2:39",
        "cifar10: 12.0/170.1 MB, 1.0 MB/s, ETA 2:38",
    ]
    megabytes = [float(line.split()[1].split("/")[0]) - 10 for line in lines]
    assert megabytes == [1, 2, 4, 8, 16, 26, 36, 46, 56]  # seconds as well


def test_resumes_a_part(get, server, tmp_path):
    (tmp_path / "file.part").write_bytes(BODY[:1000])
    get()
    assert server.requests == [("GET", "/file", "bytes=1000-")]


def test_part_that_is_whole_asks_nothing(get, server, tmp_path):
    (tmp_path / "file.part").write_bytes(BODY)
    get()
    assert server.requests == []


def test_whole_part_of_unknown_size(get, server, tmp_path):
    (tmp_path / "file.part").write_bytes(BODY)
    get(size=None)
    assert [wanted for *_, wanted in server.requests] == [f"bytes={len(BODY)}-", None]


def test_server_that_ignores_ranges(get, server, tmp_path):
    server.ranges = False
    (tmp_path / "file.part").write_bytes(b"other bytes")
    get()


@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * (len(BODY) + 1), b"x" * len(BODY)])
def test_stale_part_is_replaced(get, tmp_path, part):
    (tmp_path / "file.part").write_bytes(part)
    assert any("starting again" in line for line in get())


def test_connections_that_end_early_are_continued(get, server):
    server.cut = lambda body: body[: max(1, len(body) // 2)]
    lines = get()
    assert len(server.requests) > 10
    assert any("continuing" in line for line in lines)


def test_no_progress_gives_up_and_keeps_the_part(get, server, tmp_path):
    (tmp_path / "file.part").write_bytes(BODY[:5000])
    server.cut = lambda body: b""
    with pytest.raises(Unavailable, match=r"ended early; 5,000 bytes are kept in .*file\.part$"):
        get()
    assert (tmp_path / "file.part").read_bytes() == BODY[:5000]
    server.cut = lambda body: body
    get()


def test_a_server_that_begins_again_each_time_is_given_up(get, server, tmp_path):
    """It ignores where to go on, and ends now earlier, now later."""
    server.ranges = False
    lengths = itertools.cycle([6000, 4000])
    server.cut = lambda body: body[: next(lengths)]
    with pytest.raises(Unavailable, match=r"ended early; \S+ bytes are kept"):
        get()
    assert len(server.requests) < 10


def test_wrong_file(get, server, tmp_path):
    server.content["/file"] = BODY[:-1] + b"x"
    with pytest.raises(DataError, match=f"SHA-256 must be {SHA}, is"):
        get()
    assert list(tmp_path.iterdir()) == []
    server.content["/file"] = BODY + b"x"
    with pytest.raises(DataError, match="must have 512,000 bytes, has 512,001"):
        get()
    server.sends_length = False
    with pytest.raises(DataError, match="must have at most 512,000 bytes, has more"):
        get()
    with pytest.raises(DataError, match="must have at most 1,000 bytes"):
        get(size=None, limit=1000)
    assert list(tmp_path.iterdir()) == []


def test_stalled_server(get, server, monkeypatch):
    monkeypatch.setattr(transfer, "STALL_SECONDS", 0.1)
    server.stall.set()
    start = time.monotonic()
    with pytest.raises(Unavailable, match="timed out"):
        get()
    server.stall.clear()
    server.cut = lambda body: body[: server.released.wait(20)]  # the head comes, then nothing
    with pytest.raises(Unavailable, match="timed out; 0 bytes are kept"):
        get()
    assert time.monotonic() - start < 20


def test_what_cannot_be_written(get, server, tmp_path):
    """The system itself refuses: it is no fault of the server, which is not asked again."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        too_large = r"File too large: 512,000 bytes needed, [\d,]+ free$"
        with pytest.raises(WriteError, match=rf"file\.part: cannot be written: {too_large}"):
            get()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(server.requests) == 1
    get()
    with pytest.raises(WriteError, match=r"file/x/y: cannot be written: Not a directory$"):
        get(path=tmp_path / "file" / "x" / "y")


def test_absent_file_and_absent_server(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)
    with pytest.raises(Unavailable, match="answers 404 Not Found"):
        transfer.check(f"{server.url}/nothing")
    with pytest.raises(Unavailable, match="404"):
        transfer.fetch(f"{server.url}/nothing", tmp_path / "file", report=print)
    with socket.socket() as deaf:  # has the port and does not listen
        deaf.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="cannot be reached"):
            transfer.check(f"http://127.0.0.1:{deaf.getsockname()[1]}/")
    for address in ("file:///etc/passwd", "ftp://localhost/", "nonsense"):
        with pytest.raises(DataError, match="must begin with https"):
            transfer.check(address)


def test_check_asks_for_the_head_only(server):
    server.content["/file"] = BODY
    transfer.check(f"{server.url}/file")
    assert server.requests == [("HEAD", "/file", None)]
