import shutil
from typing import Any

import jax.numpy as jnp
import pytest

from cifar_jax.runtime import checkpoint
from cifar_jax.runtime.recovery import recover
from cifar_jax.state import TrainState


def state_at(step):
    weights = {"w": jnp.arange(600.0) + step}
    return TrainState(jnp.asarray(step), weights, {"m": weights["w"][:3]}, (), weights, {})


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three") / "checkpoints"
    for step in (10, 20, 30):
        history = [{"step": at} for at in range(10, step + 1, 10)]
        checkpoint.save(folder, state_at(step), {"history": history})
    return folder


@pytest.fixture
def folder(three, tmp_path):
    return shutil.copytree(three, tmp_path / "checkpoints")


def nothing(progress):
    return None


def go(folder, needs=nothing) -> tuple[Any, list[str]]:
    said: list[str] = []
    return recover(folder, needs, said.append), said


def names(folder):
    return {path.name for path in folder.iterdir()}


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def delete(path):
    path.unlink()


def flip(path, position=None, bit=0):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if position is None else position] ^= 1 << bit
    path.write_bytes(content)


def files(path):
    return sorted(p.relative_to(path) for p in path.rglob("*") if p.is_file())


def test_nothing_there(tmp_path):
    assert go(tmp_path / "absent") == (None, [])
    assert go(tmp_path) == (None, [])


def test_the_newest(folder):
    found, said = go(folder)
    assert (found.path, found.whole, said) == (folder / "30", {10, 20, 30}, [])
    assert found.progress["history"][-1] == {"step": 30}
    assert names(folder) == {"10", "20", "30", "latest"}


@pytest.mark.parametrize("damage", [truncate, empty, delete, flip])
def test_damage_of_any_file_of_the_newest(three, tmp_path, damage):
    listed = files(three / "30")
    assert len(listed) >= 8
    for i, name in enumerate(listed):
        if damage in (truncate, flip, empty) and not (three / "30" / name).stat().st_size:
            continue
        copy = shutil.copytree(three, tmp_path / str(i))
        damage(copy / "30" / name)
        found, said = go(copy)
        assert found.path == copy / "20"
        assert len(said) == 1
        assert said[0].startswith(f"damaged: {copy / '30' / name}: "), said
        assert said[0].endswith("set aside as 30.damaged; going on from 20")
        assert names(copy) == {"10", "20", "30.damaged", "latest"}
        assert (copy / "latest").read_text() == "20\n"
        assert go(copy)[0].path == copy / "20"  # and again


def test_every_bit_of_the_manifest_and_of_the_progress(three, tmp_path):
    copy = shutil.copytree(three / "30", tmp_path / "30")
    for name in ("SHA256SUMS", "progress.json"):
        whole = (copy / name).read_bytes()
        for position in range(len(whole)):
            flip(copy / name, position, bit=position % 8)
            assert checkpoint.damage(copy), (name, position)
            (copy / name).write_bytes(whole)
    assert checkpoint.damage(copy) is None


def test_only_damaged_ones(folder):
    for step in ("10", "20", "30"):
        delete(folder / step / "progress.json")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint is whole") as error:
        go(folder)
    for step in ("10", "20", "30"):
        assert f"{folder / step / 'progress.json'}: No such file" in str(error.value)
    assert "\n" not in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_was_set_aside_before_is_not_forgotten(folder):
    for step in ("20", "30"):
        (folder / step).rename(folder / f"{step}.damaged")
    flip(folder / "10" / "progress.json")
    with pytest.raises(checkpoint.CheckpointError, match=r"20\.damaged: set aside earlier"):
        go(folder)


def test_set_aside_twice(folder):
    (folder / "30.damaged.2" / "x").mkdir(parents=True)
    for name in ("30.damaged", "30.damaged.3"):
        flip(folder / "30" / "progress.json")
        go(folder)
        assert (folder / name / "progress.json").exists()
        shutil.copytree(folder / "20", folder / "30")


def test_leftovers_and_strangers(folder):
    for name in (".40.partial", ".30.old", "40", "050", "+5", "notes"):
        (folder / name).mkdir()
    (folder / ".latest.123").write_text("3")
    (folder / "20").rename(folder / ".20.old")  # died before its successor was in place
    found, said = go(folder)
    assert found.whole == {10, 20, 30}
    assert said == [
        f"{folder / name}: ignored: not a checkpoint" for name in ("+5", "050", "40", "notes")
    ]
    assert names(folder) == {"10", "20", "30", "latest", "40", "050", "+5", "notes"}


@pytest.mark.parametrize("content", ["", "30", "x" * 70, "-30\n", "30 30\n", "³0\n"])
def test_a_pointer_that_is_damaged_is_mended(folder, content):
    good = (folder / "latest").read_text()
    (folder / "latest").write_text(content)
    found, said = go(folder)
    assert found.path == folder / "30"
    assert said == [f"{folder / 'latest'}: ignored: it must be a step"]
    assert (folder / "latest").read_text() == good
    (folder / "latest").unlink()
    assert go(folder)[1] == []
    assert (folder / "latest").read_text() == good


def test_the_newest_is_gone(folder):
    shutil.rmtree(folder / "30")
    found, said = go(folder)
    assert found.path == folder / "20"
    assert said == [f"{folder / '30'}: empty or gone, but named by latest; going on from 20"]
    assert go(folder)[1] == []
    for step in ("10", "20"):
        shutil.rmtree(folder / step)
    with pytest.raises(checkpoint.CheckpointError, match="20: empty or gone"):
        go(folder)


def test_what_a_checkpoint_needs_must_be_whole_as_well(folder):
    flip(folder / "10" / "progress.json")
    needs = {10: 10, 20: None, 30: 10}
    found, said = go(folder, lambda progress: needs[progress["history"][-1]["step"]])
    assert found.path == folder / "20"
    assert said[-1] == (
        f"{folder / '30'}: a checkpoint that it needs is lost; set aside as 30.superseded; "
        "going on from 20"
    )
    assert names(folder) == {"10.damaged", "20", "30.superseded", "latest"}
    assert found.whole == {20}


def test_what_no_checkpoint_has_is_done_without(folder):
    flip(folder / "10" / "progress.json")
    found, said = go(folder, lambda progress: 10)
    assert found.path == folder / "30"
    assert found.whole == {20, 30}
    assert len(said) == 1
