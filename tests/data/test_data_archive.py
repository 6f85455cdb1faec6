"""The binary format, and the archive as a stream of members that nobody trusts."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cifar_jax.data import DataError, Dataset, archive, batches
from cifar_jax.data.dataset import Unavailable
from cifar_jax.data.tar import OTHER_LIMIT, read_members

SIZE = 20 * batches.RECORD_SIZE


def write_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def regular(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), data


def official(files: dict[str, bytes], prefix: str = "") -> list[tuple[tarfile.TarInfo, bytes]]:
    return [regular(f"{prefix}{batches.FOLDER_NAME}/{name}", data) for name, data in files.items()]


def test_record_layout():
    record = bytes([7]) + bytes(index % 251 for index in range(3072))
    images, labels = batches.decode(record * 2)
    assert labels.tolist() == [7, 7]
    for y, x, channel in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (31, 31, 2), (5, 17, 1)]:
        assert images[1, y, x, channel] == record[1 + channel * 1024 + y * 32 + x]
    assert batches.encode(images, labels) == record * 2


def test_batches_have_the_official_size():
    assert batches.RECORD_SIZE * batches.BATCH_RECORDS == 30_730_000


@pytest.mark.parametrize("prefix", ["", "./"])
def test_archive_and_folder_give_the_arrays(tmp_path, small, files, md5, prefix):
    members = official(files, prefix)[::-1]  # in any order
    members.insert(1, regular(f"{prefix}{batches.FOLDER_NAME}/readme.html", b"<html>"))
    path = write_tar(tmp_path / "a.tar.gz", members)
    before = sorted(tmp_path.rglob("*"))
    from_tar = archive.read_tar(path, md5, SIZE)
    assert sorted(tmp_path.rglob("*")) == before  # nothing was extracted
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    from_folder = archive.read_folder(tmp_path, md5, SIZE)
    for dataset in (from_tar, from_folder):
        assert isinstance(dataset, Dataset)
        for found, expected in zip(dataset, small, strict=True):
            np.testing.assert_array_equal(found, expected, strict=True)


def test_flipped_byte_names_the_member(tmp_path, files, md5):
    damaged = bytearray(files["data_batch_3.bin"])
    damaged[1234] ^= 1
    files["data_batch_3.bin"] = bytes(damaged)
    path = write_tar(tmp_path / "a.tar.gz", official(files))
    with pytest.raises(DataError, match=r"data_batch_3\.bin: MD5 must be \w{32}, is \w{32}$"):
        archive.read_tar(path, md5, SIZE)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=r"data_batch_3\.bin: MD5 must be"):
        archive.read_folder(tmp_path, md5, SIZE)
    (tmp_path / "data_batch_1.bin").write_bytes(b"short")
    with pytest.raises(DataError, match=r"data_batch_1\.bin must have 61,460 bytes, has 5$"):
        archive.read_folder(tmp_path, md5, SIZE)
    (tmp_path / "data_batch_1.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_1\.bin cannot be read"):
        archive.read_folder(tmp_path, md5, SIZE)


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_truncated_archive(tmp_path, files, md5, keep):
    path = write_tar(tmp_path / "a.tar.gz", official(files))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DataError, match=r"a\.tar\.gz"):
        archive.read_tar(path, md5, SIZE)


def test_garbage_archive(tmp_path, md5):
    path = tmp_path / "a.tar.gz"
    for data in (b"<html>not found</html>", gzip.compress(b"no tar at all" * 100)):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"a\.tar\.gz"):
            archive.read_tar(path, md5, SIZE)


def retyped(kind: bytes, name: str = "d/a") -> Callable[[], tuple[tarfile.TarInfo, bytes]]:
    def make():
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        return info, b""

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (retyped(tarfile.SYMTYPE), "regular file"),
        (retyped(tarfile.LNKTYPE), "regular file"),
        (retyped(tarfile.CHRTYPE), "regular file"),
        (retyped(tarfile.FIFOTYPE), "regular file"),
        (retyped(tarfile.SYMTYPE, "unknown"), "regular file"),
        (retyped(tarfile.DIRTYPE), "regular file"),
        (lambda: regular("d/a", b"123456"), "must have 5 bytes, has 6"),
        (lambda: regular("d/a", b"1234"), "must have 5 bytes, has 4"),
        (lambda: regular("../d/a", b"12345"), "outside the archive"),
        (lambda: regular("d/../../a", b"12345"), "outside the archive"),
        (lambda: regular("/d/a", b"12345"), "outside the archive"),
        (lambda: regular("d/A", b"12345"), "d/a missing"),
        (lambda: regular("huge", bytes(OTHER_LIMIT)), "more than the known members"),
    ],
)
def test_hostile_member(tmp_path, make, message):
    path = write_tar(tmp_path / "a.tar.gz", [make()])
    with pytest.raises(DataError, match=message):
        list(read_members(path, {"d/a": 5}))
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar.gz"]


def test_member_twice(tmp_path):
    path = write_tar(tmp_path / "a.tar.gz", [regular("a", b"12345"), regular("./a", b"54321")])
    with pytest.raises(DataError, match="a is there twice"):
        list(read_members(path, {"a": 5}))


def test_header_that_claims_gigabytes(tmp_path):
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf() + bytes(2 * OTHER_LIMIT), 1))
    with pytest.raises(DataError, match=r"a\.tar\.gz"):
        list(read_members(path, {"a": 5}))


def test_load_says_what_is_absent_and_what_is_damaged(tmp_path):
    lines: list[str] = []
    with pytest.raises(Unavailable, match=f"no cifar-10-binary.tar.gz .* in {tmp_path}"):
        archive.load(tmp_path, lines.append)
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    (manual / batches.ARCHIVE_NAME).write_bytes(b"<html>")
    with pytest.raises(DataError, match=f"{manual}/cifar-10-binary.tar.gz") as caught:
        archive.load(tmp_path, lines.append)
    assert not isinstance(caught.value, Unavailable)
    assert len(lines) == 1


SIZES = {"a/one.bin": 300, "a/two.bin": 5}


def plain_tar() -> bytes:
    """The two members of SIZES, not compressed."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, size in SIZES.items():
            info, data = regular(name, bytes(range(256)) * 2)
            info.size = size
            tar.addfile(info, io.BytesIO(data[:size]))
    return file.getvalue()


def read_back(path: Path, content: bytes) -> None:
    """Whatever the bytes are, the members have their sizes or the archive is refused."""
    path.write_bytes(content)
    found, refusal = {}, ""
    try:
        found = dict(read_members(path, SIZES))
    except DataError as error:
        refusal = str(error)
    assert bool(refusal) == (str(path) in refusal)
    assert "\n" not in refusal
    assert refusal or {name: len(data) for name, data in found.items()} == SIZES


changes = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes, st.integers(0, 2**14), st.booleans())
def test_any_archive_is_read_or_refused(tmp_path, changes, keep, outside):
    """Bytes changed inside the compression, or outside of it, and the end cut off."""
    content = bytearray(gzip.compress(plain_tar()) if outside else plain_tar())
    for position, value in changes:
        content[position % len(content)] = value
    whole = bytes(content) if outside else gzip.compress(bytes(content))
    read_back(tmp_path / "a.tar.gz", whole[:keep] if keep < len(whole) else whole)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=2000), st.booleans())
def test_any_bytes_are_no_archive(tmp_path, content, compressed):
    read_back(tmp_path / "a.tar.gz", gzip.compress(content) if compressed else content)
