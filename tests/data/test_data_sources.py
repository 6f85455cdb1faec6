"""Hugging Face, TFDS and the official host, with small data."""

import io
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_data_mirror import encode_png

from cifar_jax.data import DataError, Dataset, archive, download, huggingface, prepared, transfer
from cifar_jax.data.dataset import Unavailable, sha256


@pytest.fixture
def hashes(small: Dataset) -> dict[str, str]:
    return {name: sha256(array) for name, array in small._asdict().items()}


def assert_same(found: Dataset, expected: Dataset) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


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
    texts, numbers = ({"img": [{"bytes": value}]} for value in ("png", 1))
    for other in (
        {"image": [1]},
        row | {"img": [b"png"]},
        row | {"label": ["cat"]},
        row | texts,
        row | numbers,
    ):
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
    (data_dir / "cifar10-train.parquet").write_text("the user's own")
    huggingface.check(data_dir)
    with pytest.raises(DataError, match="train_images: SHA-256 must be 47af8b02"):
        huggingface.load(data_dir, print)
    assert [path.name for path in data_dir.iterdir()] == ["cifar10-train.parquet"]
    assert (data_dir / "cifar10-train.parquet").read_text() == "the user's own"
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


def test_a_damaged_copy_of_tfds_hides_no_good_one(tmp_path, monkeypatch):
    for folder in (tmp_path / "own", tmp_path / "theirs"):
        info = folder / "cifar10" / "3.0.2" / "dataset_info.json"
        info.parent.mkdir(parents=True)
        info.write_text("{}")

    def read(folder):
        if "own" in folder.parts:
            raise DataError(f"{folder} cannot be read")
        return folder

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "theirs"))
    said: list[str] = []
    monkeypatch.setattr(prepared, "read", read)
    assert prepared.load(tmp_path / "own", said.append) == info.parent
    assert [line for line in said if "cannot be read" in line]
    monkeypatch.delenv("TFDS_DATA_DIR")
    with pytest.raises(DataError, match=r"own/cifar10/3\.0\.2 cannot be read"):
        prepared.load(tmp_path / "own", said.append)


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


def test_download_keeps_a_damaged_archive(tmp_path, small, monkeypatch):
    """Under another name, once there is a good one."""
    path, served = tmp_path / "cifar-10-binary.tar.gz", list[str]()
    path.write_text("the user's own")

    def fetch(url, path, **_):
        if not served:
            raise Unavailable(url)
        path.write_text(served[0])

    def read_tar(path):
        if path.read_text() != "the official one":
            raise DataError("damaged")
        return small

    monkeypatch.setattr(transfer, "fetch", fetch)
    monkeypatch.setattr(archive, "read_tar", read_tar)
    monkeypatch.setattr(download, "verify", lambda dataset: dataset)
    with pytest.raises(Unavailable):
        download.load(tmp_path, print)
    assert path.read_text() == "the user's own"
    served.append("the official one")
    assert download.load(tmp_path, print) is small
    assert path.read_text() == "the official one"
    assert (tmp_path / f"{path.name}.damaged").read_text() == "the user's own"
    assert len(list(tmp_path.iterdir())) == 2
