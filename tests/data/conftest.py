"""A small data set, its batch files, and an HTTP server that misbehaves on request."""

import contextlib
import http.server
import re
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from cifar_jax.data import Dataset, batches

RECORDS = 20  # in a batch of the small data set


@pytest.fixture
def small() -> Dataset:
    """100 training and 20 test images of noise."""
    rng = np.random.default_rng(0)
    return Dataset(
        rng.integers(0, 256, (100, 32, 32, 3), np.uint8),
        rng.integers(0, 10, 100, np.uint8),
        rng.integers(0, 256, (20, 32, 32, 3), np.uint8),
        rng.integers(0, 10, 20, np.uint8),
    )


@pytest.fixture
def files(small: Dataset) -> dict[str, bytes]:
    """The batch files of the small data set, by their official names."""
    *train, test = batches.MD5
    content = {}
    for index, name in enumerate(train):
        part = slice(index * RECORDS, (index + 1) * RECORDS)
        content[name] = batches.encode(small.train_images[part], small.train_labels[part])
    content[test] = batches.encode(small.test_images, small.test_labels)
    return content


@pytest.fixture
def md5(files: dict[str, bytes]) -> dict[str, str]:
    return {name: batches.md5(data) for name, data in files.items()}


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content`` by path; the other attributes say what goes wrong."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.ranges = True  # whether Range is understood
        self.sends_length = True
        self.cut: Callable[[bytes], bytes] = lambda body: body  # what of a body arrives
        self.stall = threading.Event()  # set: no answer until it is cleared or the server closes
        self.released = threading.Event()
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Range

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, format, *args):
        del format, args

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server = self.server
        assert isinstance(server, Server)
        wanted = self.headers.get("Range")
        server.requests.append((self.command, self.path, wanted))
        if server.stall.is_set():
            server.released.wait(20)
            return
        body = server.content.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        if match and server.ranges:
            start = int(match[1])
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if server.sends_length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(server.cut(body[start:]))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()
