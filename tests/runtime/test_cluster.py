"""What processes tell each other; with real processes: tests/faults/test_faults_cluster.py."""

import io
import tarfile

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from cifar_jax.config import Config, to_dict
from cifar_jax.errors import ConfigError
from cifar_jax.runtime import cluster, environment


def test_checkpoints_behind_a_link_are_sent(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "7").write_text("a checkpoint")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "scratch")
    content = cluster._pack(tmp_path / "run")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(tmp_path / "other", filter="data")
    assert (tmp_path / "other" / "checkpoints" / "7").read_text() == "a checkpoint"


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), ConfigError("broken")])
def test_what_the_first_cannot_read_ends_all(tmp_path, monkeypatch, error):
    """The others wait for the folder: what becomes of it has to be told before it is raised."""
    told = []

    def fail(path):
        raise error

    def of_first(value):
        told.append(value)
        return value

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(cluster, "_pack", fail)
    monkeypatch.setattr(cluster, "of_first", of_first)
    with (
        pytest.raises(ConfigError, match=r"Permission denied|broken"),
        cluster.own_workdir(tmp_path / "run"),
    ):
        pytest.fail("there is no folder to work in")
    assert told == [str(error)]


@pytest.mark.parametrize("name", ["code", "jax"])
def test_other_code_is_refused(monkeypatch, name):
    def of_first(value):
        assert value["config"] == to_dict(config)
        return {"config": {"a section": {}}, "versions": value["versions"] | {name: "newer"}}

    config = Config()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(cluster, "of_first", of_first)
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda own: np.array([0, own]))
    monkeypatch.setattr(cluster, "_broadcast", lambda content, source: [b"", content][source])
    own = environment.versions()[name]
    message = rf"^process 1 must have what process 0 has: {name}: newer -> {own}$"
    with pytest.raises(ConfigError, match=message):
        cluster.require_same(config)


def test_where_the_data_are_may_differ(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    here = Config().replace(data={"data_dir": "here", "source": "cache"})
    there = Config().replace(data={"data_dir": "there", "source": "download"})
    monkeypatch.setattr(cluster, "of_first", lambda value: value | {"config": to_dict(there)})
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda own: np.array([0, own]))
    cluster.require_same(here)
