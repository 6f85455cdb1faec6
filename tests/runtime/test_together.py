"""Several runs in one loop: each has the files of a single run, and they stop and go on."""

import json

import jax
import pytest
from tiny_runs import TIMES, read_metrics, stop_in_chunk

from cifar_jax.errors import ConfigError
from cifar_jax.runtime import checkpoint
from cifar_jax.runtime import session as session_module
from cifar_jax.runtime import together as together_module
from cifar_jax.runtime.environment import OutOfMemory
from cifar_jax.runtime.history import out_of_patience
from cifar_jax.runtime.members import Members
from cifar_jax.runtime.together import Run, train_together
from cifar_jax.runtime.train import train
from cifar_jax.runtime.trainer import TrainingError

SAME = ("ema_test_accuracy", "test_loss", "selected_epoch", "weights_sha256", "confusion")


@pytest.fixture(scope="module")
def runs(tiny):
    """Two seeds."""
    return [tiny, tiny.replace(train={"seed": 5})]


@pytest.fixture(scope="module")
def together(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    found = [Run(config, folder / f"run{i}") for i, config in enumerate(runs)]
    assert train_together(found, command="the command") == {}
    return folder


def results(folder, i):
    return json.loads((folder / f"run{i}" / "results.json").read_text())


def test_each_is_a_single_run(whole, together, runs, tmp_path):
    """The one of the tiny config has the bits of ``whole``, which was trained alone."""
    folder, alone = whole
    found = results(together, 0)
    assert {name: found[name] for name in SAME} == {name: alone[name] for name in SAME}
    assert found["side_by_side"] == 2
    assert found["command"] == "the command"
    rows, expected = read_metrics(together / "run0"), read_metrics(folder)
    for row, other in zip(rows, expected, strict=True):
        assert {k: row[k] for k in row.keys() - TIMES} == {k: other[k] for k in row.keys() - TIMES}
    single = train(runs[1], tmp_path / "single")
    assert {name: results(together, 1)[name] for name in SAME} == {
        name: single[name] for name in SAME
    }
    for name in ("curves.png", "confusion.png", "config.json", "log.txt"):
        assert (together / "run1" / name).exists()


def test_too_little_memory_for_all(together, runs, tmp_path, monkeypatch):
    def exhausted(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\n")

    monkeypatch.setattr(together_module, "_train", exhausted)
    found = [Run(config, tmp_path / f"run{i}") for i, config in enumerate(runs)]
    with pytest.raises(OutOfMemory) as error:
        train_together(found)
    assert str(error.value).endswith("memory with side_by_side 2: try --side-by-side 1")
    with pytest.raises(OutOfMemory) as error:  # the other is finished, and needs none
        train_together([Run(runs[0], together / "run0"), found[1]])
    size = runs[1].train.batch_size
    said = f"memory with train.batch_size {size}: try --train.batch-size {size // 2}"
    assert str(error.value).endswith(said)


@pytest.mark.parametrize("chunks", [3, 4])  # two are an epoch
def test_stopped_and_continued(together, runs, tmp_path, chunks):
    found = [Run(config, tmp_path / f"run{i}") for i, config in enumerate(runs)]
    stop_in_chunk(chunks, lambda asked: train_together(found, stop=asked))
    assert not (tmp_path / "run0" / "results.json").exists()
    assert train_together(found) == {}
    for i in range(2):
        again, before = results(tmp_path, i), results(together, i)
        assert {name: again[name] for name in SAME} == {name: before[name] for name in SAME}


def test_at_different_steps_after_a_kill(together, runs, tmp_path):
    """One was saved after an epoch that the other has to train again."""
    kill_between_checkpoints([Run(config, tmp_path / f"run{i}") for i, config in enumerate(runs)])
    for i in range(2):
        again, before = results(tmp_path, i), results(together, i)
        assert again["weights_sha256"] == before["weights_sha256"]
        assert again["side_by_side"] == 2  # before they were killed


def test_recipes_at_different_steps_after_a_kill(light, tmp_path):
    """A number that the two differ in is no constant in a loop of one of them either."""
    optim = {"optimizer": "muon", "muon_learning_rate": 0.05, "schedule": "linear"}
    configs = [
        light.replace(train={"epochs": 3}, optim={**optim, "learning_rate": rate})
        for rate in (0.3, 0.2)
    ]
    whole, killed = (
        [Run(config, tmp_path / kind / f"run{i}") for i, config in enumerate(configs)]
        for kind in ("whole", "killed")
    )
    assert train_together(whole) == {}
    kill_between_checkpoints(killed)
    for i in range(2):
        again, before = (results(tmp_path / kind, i) for kind in ("killed", "whole"))
        assert again["weights_sha256"] == before["weights_sha256"]


def kill_between_checkpoints(found):
    """Kill runs when one has saved an epoch that the other has not; let them go on to their end."""
    with pytest.MonkeyPatch.context() as patch:
        real, saved = checkpoint.save, []

        def save(folder, state, progress):
            if len(saved) == 3:
                raise KeyboardInterrupt
            saved.append(folder)
            return real(folder, state, progress)

        patch.setattr(checkpoint, "save", save)
        with pytest.raises(KeyboardInterrupt):
            train_together(found)
    steps = [
        max(int(path.name) for path in (run.folder / "checkpoints").iterdir() if path.is_dir())
        for run in found
    ]
    assert steps[0] == 2 * steps[1]
    assert train_together(found) == {}


def test_finished_ones_are_left_alone(together, runs):
    found = [Run(config, together / f"run{i}") for i, config in enumerate(runs)]
    before = [results(together, i) for i in range(2)]
    assert train_together(found) == {}
    assert [results(together, i) for i in range(2)] == before


def test_patience_of_each(light, tmp_path):
    """One that learns nothing is over early; the other goes on."""
    train_ = {"patience": 1, "epochs": 3}
    still = light.replace(train=train_, optim={"learning_rate": 1e-12, "ema_decay": 0.0})
    moves = light.replace(train=train_, optim={"ema_decay": 0.0})
    found = [Run(still, tmp_path / "still"), Run(moves, tmp_path / "moves")]
    assert train_together(found) == {}
    for run in found:  # each ends where its own history has it end
        rows, last = read_metrics(run.folder), run.config.train.epochs
        over = (n for n in range(1, last) if out_of_patience(run.config.train, rows[:n]))
        assert [row["epoch"] for row in rows] == list(range(1, next(over, last) + 1))
        assert json.loads((run.folder / "results.json").read_text())["epochs"] == len(rows)
    assert len(read_metrics(tmp_path / "still")) == 2
    assert "stopped: no gain in 1 epochs" in (tmp_path / "still" / "log.txt").read_text()


def test_one_fails(light, tmp_path):
    calm = light.replace(optim={"nonfinite_limit": 5})
    wild = calm.replace(optim={"learning_rate": 1e6})
    found = [Run(calm, tmp_path / "calm"), Run(wild, tmp_path / "wild")]
    failed = train_together(found)
    assert list(failed) == [tmp_path / "wild"]
    assert "had a NaN or an infinity" in failed[tmp_path / "wild"]
    log = (tmp_path / "wild" / "log.txt").read_text()
    assert log.endswith(f" ended: {failed[tmp_path / 'wild']}\n")
    assert " ended: " not in (tmp_path / "calm" / "log.txt").read_text()
    assert (tmp_path / "calm" / "results.json").exists()
    assert not (tmp_path / "wild" / "results.json").exists()
    again = train_together(found)  # now alone in its loop
    assert list(again) == [tmp_path / "wild"]


def test_whole_epochs_of_a_failed_run_are_kept(light, tmp_path, monkeypatch):
    """Though it is not time for a checkpoint."""
    config = light.replace(data={"validation_examples": 0}, train={"checkpoint_every": 50})
    found = [Run(config.replace(train={"seed": n}), tmp_path / f"run{n}") for n in range(2)]

    def fail(self, train_state, epoch, *args, real=Members.train_epoch, **options):
        moved = real(self, train_state, epoch, *args, **options)
        if epoch == 3:
            self.failed.setdefault(0, "it fails")
        return moved

    with monkeypatch.context() as patch:
        patch.setattr(Members, "train_epoch", fail)
        assert train_together(found) == {found[0].folder: "it fails"}
    assert list(checkpoint.steps(found[0].folder / "checkpoints")) == [20]


def test_weights_that_are_not_finite_end_one_run_alone(light, tmp_path):
    """Found when it is saved or evaluated, not in the loop."""
    calm = light.replace(optim={"nonfinite_limit": 1000, "clip_norm": 0.0})
    wild = calm.replace(optim={"learning_rate": 1e4})
    found = [Run(wild, tmp_path / "wild"), Run(calm, tmp_path / "calm")]
    failed = train_together(found)
    assert list(failed) == [tmp_path / "wild"]
    assert "finite" in failed[tmp_path / "wild"] or "NaN" in failed[tmp_path / "wild"]
    ended = json.loads((tmp_path / "calm" / "results.json").read_text())
    assert ended["weights_sha256"] == train(calm, tmp_path / "single")["weights_sha256"]


def test_an_epoch_whose_figures_are_not_finite_is_not_saved(light, tmp_path, monkeypatch):
    """The run goes on from the epoch before it, with other values or as it is."""
    configs = [light.replace(train={"epochs": 3, "seed": seed}) for seed in (0, 1)]
    found = [Run(config, tmp_path / f"run{config.train.seed}") for config in configs]

    def infinite(config, train_state, images, real=session_module.validation_figures):
        if config.train.seed == 0 and train_state.step == 20:
            raise TrainingError("step 20: ema_validation_loss must be finite, not inf")
        return real(config, train_state, images)

    with monkeypatch.context() as patch:
        patch.setattr(session_module, "validation_figures", infinite)
        assert list(train_together(found)) == [found[0].folder]
    assert list(checkpoint.steps(found[0].folder / "checkpoints")) == [10]
    assert train_together(found) == {}
    assert [row["epoch"] for row in read_metrics(found[0].folder)] == [1, 2, 3]


def test_metrics_after_one_has_failed_in_a_part_of_an_epoch(together, runs, tmp_path):
    """The other's epochs are summed from their own beginning."""
    found = [Run(config, tmp_path / f"run{i}") for i, config in enumerate(runs)]
    stop_in_chunk(3, lambda asked: train_together(found, stop=asked))

    def fail(self, train_state, *args, real=Members.train_epoch, **options):
        moved = real(self, train_state, *args, **options)
        self.failed.setdefault(0, "it fails")
        return moved

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Members, "train_epoch", fail)
        assert train_together(found) == {tmp_path / "run0": "it fails"}
    losses = [row["train_loss"] for row in read_metrics(tmp_path / "run1")]
    assert losses == [row["train_loss"] for row in read_metrics(together / "run1")]


def test_a_folder_in_use(tiny, tmp_path):
    found = [Run(tiny, tmp_path / "same"), Run(tiny, tmp_path / "same")]
    with pytest.raises(ConfigError, match="in use"):
        train_together(found)
