"""Fetching one file over HTTP: resumable, bounded, with progress and an estimate of the time left.

The standard library's urllib takes proxies from the environment.
"""

import contextlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from cifar_jax.data.dataset import DataError, Report, Unavailable
from cifar_jax.files import replace_durably, sha256_of, writing

CHECK_SECONDS = 4.0  # for a server's first answer; less than a probe waits
STALL_SECONDS = 30.0  # without a byte before a connection is given up
FRUITLESS_ATTEMPTS = 3  # connections in a row that bring nothing new
FIRST_SECONDS = 1.0  # before the first line of progress; the later, the longer between two
REPORT_SECONDS = 10.0  # at most between two lines, which a run's log keeps
CHUNK = 2**16  # bytes

_Response = http.client.HTTPResponse


def check(url: str) -> None:
    """Asks for the head of ``url``; raises `Unavailable` where there is no good answer.

    Name resolution can hang for longer than any timeout given to urllib; see `probe.Probe`.
    """
    with _open(url, CHECK_SECONDS, method="HEAD"):
        pass


def fetch(
    url: str,
    path: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    limit: int = 2**30,
    report: Report,
) -> None:
    """Fetches ``url`` to ``path``; continues ``path.part`` where an earlier call left it.

    Args:
      url: what to fetch, http or https.
      path: the file to write; it appears only when whole and verified.
      size: its size in bytes, where known.
      sha256: its SHA-256, where known.
      limit: bytes beyond which a file of unknown size is refused.
      report: told the progress: after 1, 2, 4, 8 and 16 seconds, then every 10.

    Raises:
      Unavailable: the server cannot be reached or stops answering; what came so far is kept.
      DataError: the server's file is another one than expected.
      WriteError: what comes cannot be written; what was written so far is kept.
    """
    part = path.with_name(path.name + ".part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    resumed = part.exists()
    if resumed and size is not None and part.stat().st_size > size:
        report(f"cifar10: {part} is longer than {size:,} bytes; starting again")
        part.unlink()
    _complete(url, part, size, size if size is not None else limit, report)
    if sha256 is not None and (value := sha256_of(part)) != sha256:
        part.unlink()
        if not resumed:
            raise DataError(f"{url}: SHA-256 must be {sha256}, is {value}")
        report(f"cifar10: {part} did not continue to the right file; starting again")
        return fetch(url, path, size=size, sha256=sha256, limit=limit, report=report)
    with writing(path):
        replace_durably(part, path)
    return None


def _complete(url: str, part: Path, size: int | None, limit: int, report: Report) -> None:
    """Appends to ``part`` over as many connections as it takes."""
    attempts, most = 0, 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        if before == size:
            return
        try:
            if _append(url, part, before, size, limit, report):
                return
            reason = "the connection ended early"
        except (Unavailable, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
        after = part.stat().st_size if part.exists() else 0
        most = max(most, before)  # a server may ignore where to go on, and begin again
        attempts = 0 if after > most else attempts + 1
        if attempts == FRUITLESS_ATTEMPTS:
            raise Unavailable(f"{url}: {reason}; {after:,} bytes are kept in {part}")
        report(f"cifar10: {reason} after {after / 1e6:.1f} MB; continuing")
        time.sleep(attempts)


def _append(
    url: str,
    part: Path,
    offset: int,
    size: int | None,
    limit: int,
    report: Report,
) -> bool:
    """Appends what one connection brings; returns whether the file is then whole."""
    with _open(url, STALL_SECONDS, offset=offset) as response:
        if response.status == 416:  # nothing from this offset on: the part is not of this file
            part.unlink()
            return False
        start, total = _extent(response)
        if start not in (0, offset):
            raise http.client.HTTPException(f"answers from byte {start:,}, not {offset:,}")
        offset = start  # 0 where the server sends all of it, whatever was asked
        if size is not None and total is not None and total != size:
            raise DataError(f"{url} must have {size:,} bytes, has {total:,}")
        total = total if total is not None else size
        progress = _Progress(report, offset, total)
        with writing(part, (total or offset) - offset), part.open("ab") as file:
            file.truncate(offset)
            for chunk in _chunks(response):
                offset += len(chunk)
                if offset > limit:
                    file.close()
                    part.unlink()
                    raise DataError(f"{url} must have at most {limit:,} bytes, has more")
                file.write(chunk)
                progress.update(offset)
            file.flush()
            os.fsync(file.fileno())
    return total is None or offset == total


@contextlib.contextmanager
def _open(url: str, seconds: float, offset: int = 0, method: str = "GET") -> Iterator[_Response]:
    """The response to a request; raises `Unavailable` unless it is 2xx or 416."""
    if not url.startswith(("https://", "http://")):
        raise DataError(f"the address must begin with https:// or http://, is {url!r}")
    headers = {"User-Agent": "cifar_jax"} | ({"Range": f"bytes={offset}-"} if offset else {})
    try:
        request = urllib.request.Request(url, headers=headers, method=method)
        response = urllib.request.urlopen(request, timeout=seconds)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            error.close()
            raise Unavailable(f"{url} answers {error.code} {error.reason}") from error
        response = error
    except urllib.error.URLError as error:
        raise Unavailable(f"{url} cannot be reached: {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"{url} cannot be reached: {error}") from error
    with response:
        yield response  # pyright: ignore[reportReturnType]


def _chunks(response: _Response) -> Iterator[bytes]:
    """What comes; a connection that breaks is `Unavailable`, not a failure to write."""
    try:
        while chunk := response.read1(CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(str(error) or type(error).__name__) from error


def _extent(response: _Response) -> tuple[int, int | None]:
    """The first byte that is sent, and the size of the whole file if the server states it."""
    if response.status != 206:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    content_range = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
    if not match:
        raise http.client.HTTPException(f"answers an unknown range, {content_range!r}")
    return int(match[1]), None if match[2] == "*" else int(match[2])


class _Progress:
    """Reports lines such as ``cifar10: 35.1/170.1 MB, 12.3 MB/s, ETA 0:11``."""

    def __init__(self, report: Report, offset: int, total: int | None):
        self._report, self._total = report, total
        self._first = offset
        self._start = time.monotonic()
        self._next = self._start + FIRST_SECONDS

    def update(self, offset: int) -> None:
        now = time.monotonic()
        if now < self._next and offset != self._total:
            return
        self._next = now + min(now - self._start, REPORT_SECONDS)
        rate = (offset - self._first) / max(now - self._start, 1e-3)  # bytes a second
        if self._total is None:
            self._report(f"cifar10: {offset / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s")
            return
        left = int((self._total - offset) / rate) if rate else 0
        self._report(
            f"cifar10: {offset / 1e6:.1f}/{self._total / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s, "
            f"ETA {left // 60}:{left % 60:02d}"
        )
