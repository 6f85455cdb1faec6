"""The cache: whole or absent, verified, never unpickled."""

import errno
import os
import random
from pathlib import Path

import numpy as np
import pytest

from cifar_jax.config import AugmentConfig
from cifar_jax.data import SHA256, DataError, cache, load, load_cifar10
from cifar_jax.data.dataset import Unavailable, sha256, verify

REAL = Path(__file__).parents[2] / "data" / "cifar10.npz"


@pytest.fixture
def hashes(small):
    return {name: sha256(array) for name, array in small._asdict().items()}


def test_round_trip(tmp_path, small, hashes):
    path = cache.save(tmp_path, small)
    for found, expected in zip(cache.read(path, hashes), small, strict=True):
        np.testing.assert_array_equal(found, expected, strict=True)
    assert os.listdir(tmp_path) == ["cifar10.npz"]


def test_absent_and_other_data(tmp_path, small):
    with pytest.raises(Unavailable, match=f"no {tmp_path}/cifar10.npz"):
        cache.load(tmp_path, print)
    cache.save(tmp_path, small)
    with pytest.raises(DataError, match="train_images: SHA-256 must be 47af8b02"):
        cache.load(tmp_path, print)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ESTALE])
def test_a_cache_that_cannot_be_read_is_not_damaged(tmp_path, small, hashes, monkeypatch, number):
    path = cache.save(tmp_path, small)
    before = path.read_bytes()

    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(np, "load", fail)
        with pytest.raises(Unavailable, match=f"cannot be read: {os.strerror(number)}$"):
            cache.read(path, hashes)
        said: list[str] = []
        patch.setattr(cache, "load", lambda folder, report: cache.read(path, hashes))
        load._write_cache(tmp_path, small, said.append)
        assert said == [f"cifar10: not cached: {path} cannot be read: {os.strerror(number)}"]
    assert os.listdir(tmp_path) == ["cifar10.npz"]
    assert path.read_bytes() == before


def test_too_little_memory_is_no_damage(tmp_path, small, hashes, monkeypatch):
    path = cache.save(tmp_path, small)

    def fail(*args, **options):
        raise MemoryError("Unable to allocate 146. MiB")

    monkeypatch.setattr(cache, "verify", fail)
    with pytest.raises(Unavailable, match=r"npz cannot be read: Unable to allocate 146. MiB$"):
        cache.read(path, hashes)


def test_any_flipped_byte_is_noticed_or_harmless(tmp_path, small, hashes):
    path = cache.save(tmp_path, small)
    good = path.read_bytes()
    chosen = random.Random(0)
    places = [chosen.randrange(len(good)) for _ in range(60)]
    noticed = []
    for place in [*range(0, 200, 7), *range(len(good) - 300, len(good), 11), *places]:
        damaged = bytearray(good)
        damaged[place] ^= 1 << chosen.randrange(8)
        path.write_bytes(damaged)
        try:  # a flip in a time stamp changes nothing; the arrays decide
            for found, expected in zip(cache.read(path, hashes), small, strict=True):
                np.testing.assert_array_equal(found, expected, strict=True)
        except DataError as error:
            noticed.append(str(error))
    assert len(noticed) > 60
    assert "\n" not in "".join(noticed)


@pytest.mark.parametrize("keep", [0, 1, 1000, 200_000, -1])
def test_truncated(tmp_path, small, hashes, keep):
    path = cache.save(tmp_path, small)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cifar10\.npz is damaged: [^\n]+$"):
        cache.read(path, hashes)


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "cifar10.npz"
    objects = np.array([_Bomb(str(tmp_path / "unpickled"))], object)
    with path.open("wb") as file:
        np.savez(file, train_images=objects, train_labels=objects)
    with pytest.raises(DataError, match="cannot be loaded when allow_pickle=False"):
        cache.read(path)
    assert not (tmp_path / "unpickled").exists()


def test_interrupted_write_leaves_the_old_cache(tmp_path, small, hashes, monkeypatch):
    path = cache.save(tmp_path, small)

    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.save(tmp_path, small)
    assert os.listdir(tmp_path) == ["cifar10.npz"]
    cache.read(path, hashes)


def test_verify_refuses_another_type(small, hashes):
    other = small._replace(train_labels=small.train_labels.astype(np.int64))
    with pytest.raises(DataError, match="train_labels must be uint8, is int64"):
        verify(other, hashes)
    flipped = small._replace(test_images=small.test_images[:, :, ::-1])  # not contiguous
    with pytest.raises(DataError, match="test_images: SHA-256"):
        verify(flipped, hashes)
    assert verify(small._replace(test_images=flipped.test_images[:, :, ::-1]), hashes)


@pytest.mark.skipif(not REAL.exists(), reason=f"needs the real data set, {REAL}")
def test_real_data():
    dataset = load_cifar10(REAL.parent, "cache")
    assert {name: sha256(array) for name, array in dataset._asdict().items()} == SHA256
    assert np.bincount(dataset.train_labels).tolist() == [5000] * 10
    assert np.bincount(dataset.test_labels).tolist() == [1000] * 10
    pixels = dataset.train_images.reshape(-1, 3)
    np.testing.assert_allclose(pixels.mean(0) / 255, AugmentConfig().mean, atol=1e-5)
    np.testing.assert_allclose(pixels.std(0) / 255, AugmentConfig().std, atol=1e-5)
