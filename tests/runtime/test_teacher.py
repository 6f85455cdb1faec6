"""Runs that learn from a teacher, and which teachers are refused."""

import json
import shutil

import chex
import jax
import numpy as np
import pytest
from tiny_runs import read_metrics, stop

from cifar_jax import load
from cifar_jax.config_file import load_config
from cifar_jax.errors import ConfigError
from cifar_jax.models import WideResNet
from cifar_jax.runtime.cards import export, write_folder
from cifar_jax.runtime.compatibility import changes
from cifar_jax.runtime.members import fit
from cifar_jax.runtime.pretrained import WeightsError
from cifar_jax.runtime.sweep import sweep, sweep_grid
from cifar_jax.runtime.teacher import load_teacher
from cifar_jax.runtime.together import Run, train_together
from cifar_jax.runtime.train import open_session, train
from cifar_jax.runtime.trainer import Trainer
from cifar_jax.runtime.workdir import Workdir


@pytest.fixture(scope="module")
def teacher(whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "net"
    export(whole[0], folder)
    return folder


@pytest.fixture(scope="module")
def taught(light, teacher):
    return light.replace(
        model={"stages": (8, 8)},
        distill={"teacher": str(teacher), "weight": 0.8, "temperature": 2.0},
        train={"epochs": 2},
    )


@pytest.fixture(scope="module")
def run(taught, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "taught"
    return workdir, train(taught, workdir)


def test_results_log_and_card_name_the_teacher(run, teacher, tmp_path, monkeypatch):
    workdir, results = run
    card = json.loads((teacher / "card.json").read_text())
    assert results["teacher"] == {
        "path": str(teacher),
        **{name: card[name] for name in ("file_sha256", "parameters", "accuracy", "protocol")},
    }
    line = f"teacher {teacher}: {card['parameters']:,} parameters, {card['accuracy']:.2%} on the"
    assert line in (workdir / "log.txt").read_text()
    monkeypatch.delattr("cifar_jax.runtime.trainer.load_teacher")  # who is not needed any more
    own = export(workdir, tmp_path / "net")
    assert own["teacher"] == results["teacher"]
    words = f"trained on 200 images, taught by a network of {card['parameters']:,} parameters; "
    assert own["protocol"].startswith(words)


def test_what_it_teaches_is_learned(run, taught, tmp_path):
    """Without the labels, all that there is to learn is the teacher's."""
    config = taught.replace(distill={"weight": 1.0}, train={"epochs": 3})
    results = train(config, tmp_path / "run")
    losses = [row["train_loss"] for row in read_metrics(tmp_path / "run")]
    assert losses[-1] < 0.7 * losses[0]
    assert results["config_sha256"] != run[1]["config_sha256"]


def test_stopped_and_resumed_bit_for_bit(run, taught, tmp_path):
    stop(taught, tmp_path / "run", 3)
    results = train(taught, tmp_path / "run")
    assert results["weights_sha256"] == run[1]["weights_sha256"]
    assert results["environment_changes"] == []


def test_another_teacher_between_two_sessions_is_another_run(taught, teacher, tmp_path):
    """By its weights, whatever its folder is called."""
    other = shutil.copytree(teacher, tmp_path / "net")
    config = taught.replace(distill={"teacher": str(other)})
    stop(config, tmp_path / "run", 3)
    net = load(other)
    shutil.rmtree(other)
    write_folder(other, jax.tree.map(lambda w: 2 * w, net.variables), net.config, net.card)
    old, new = net.card["file_sha256"], load(other).card["file_sha256"]
    with pytest.raises(ConfigError, match=f"SHA-256 of distill.teacher: {old} -> {new}"):
        train(config, tmp_path / "run")
    session = open_session(Workdir(tmp_path / "run"), config, [], allow_config_change=True)
    (changed,) = session.config_changes
    assert (changed["field"], changed["new"]) == ("SHA-256 of distill.teacher", new)


def test_a_sweep_has_one_teacher(run, taught, tmp_path):
    """A run that is finished learned from the same weights as those that are to be trained."""
    folder = shutil.copytree(run[0], tmp_path / "sweep" / "seed0")
    results = json.loads((folder / "results.json").read_text())
    results["teacher"]["file_sha256"] = "5" * 64
    (folder / "results.json").write_text(json.dumps(results))
    with pytest.raises(
        ConfigError, match=r"seed0 was taught by other weights of \S+ than the rest, of SHA-256 55"
    ):
        sweep(taught, [0, 1], tmp_path / "sweep")
    assert not (tmp_path / "sweep" / "seed1").exists()


def test_side_by_side_each_has_the_bits_of_a_single_run(run, taught, tmp_path, monkeypatch):
    runs = [Run(taught.replace(train={"seed": n}), tmp_path / f"{n}") for n in range(2)]
    other = Run(taught.replace(distill={"teacher": ""}), tmp_path / "other")
    with pytest.raises(ValueError, match=r"runs must fit, not \S+0 and \S+other"):
        train_together([*runs, other])
    monkeypatch.delattr("cifar_jax.runtime.trainer.load_teacher")  # once is enough for all
    assert train_together(runs) == {}
    monkeypatch.delattr("cifar_jax.runtime.together.load_teacher")
    assert train_together(runs) == {}  # finished: nobody needs it any more
    found = [json.loads((one.folder / "results.json").read_text()) for one in runs]
    assert [one["teacher"] for one in found] == [run[1]["teacher"]] * 2
    assert found[0]["weights_sha256"] == run[1]["weights_sha256"] != found[1]["weights_sha256"]
    assert fit(taught, taught.replace(distill={"weight": 0.1, "temperature": 1.0}))
    assert not fit(taught, taught.replace(distill={"teacher": "runs/another"}))


def test_its_answers_are_those_of_the_exported_network(taught, teacher):
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
    net, answers = load(teacher), load_teacher(taught)
    assert answers
    found = answers.model.apply(answers.variables, images)
    np.testing.assert_array_equal(found, net.model.apply(net.variables, images))
    trainer = Trainer(taught)
    *_, given = trainer.resident((np.zeros((200, 32, 32, 3), np.uint8), np.zeros(200, np.uint8)))
    chex.assert_trees_all_equal(given, net.variables)  # to the compiled loop
    half = load_teacher(taught.replace(model={"dtype": "bfloat16"}))
    assert half
    assert half.model.dtype == np.dtype("bfloat16")


def test_a_wide_teacher(light, tmp_path):
    """Whose convolutions are of another kind than its student's."""
    wide = light.replace(
        model={"architecture": "wide", "stages": (4,), "blocks": 1},
        train={"epochs": 1},
        eval={"tta": "none"},
    )
    stop(wide, tmp_path / "wide", chunks=1)
    own = train(wide, tmp_path / "wide")
    assert own["convolutions"] == "plain"
    assert own["weights_sha256"] == train(wide, tmp_path / "again")["weights_sha256"]
    export(tmp_path / "wide", tmp_path / "net")
    student = light.replace(distill={"teacher": str(tmp_path / "net")}, train={"epochs": 1})
    answers = load_teacher(student.replace(model={"convolutions": "native"}))
    assert answers is not None
    assert isinstance(answers.model, WideResNet)
    assert answers.model.lanes == 0
    assert train_together([Run(student, tmp_path / "student")], vectorized=True) == {}
    found = json.loads((tmp_path / "student" / "results.json").read_text())
    assert found["teacher"]["parameters"] == own["parameters"]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"augment": {"mean": (0.5, 0.5, 0.5)}}, "augment.mean, (0.5, 0.5, 0.5), not (0.49"),
        ({"augment": {"std": (0.5, 0.5, 0.5)}}, "augment.std, (0.5, 0.5, 0.5), not (0.24"),
        ({"data": {"validation_examples": 40, "split_seed": 1}}, "data.split_seed, 1, not 0"),
        ({"data": {"source": "auto"}}, "data.validation_examples, 5000, not 40"),
        ({"data": {"source": "auto", "validation_examples": 0}}, "data.source, auto, not synthet"),
        ({"data": {"source": "auto", "validation_examples": 40, "split_seed": 1}}, "split_seed, 1"),
    ],
)
def test_teachers_that_are_refused(taught, tmp_path, sections, message):
    if "data" in sections:
        sections["data"] = {"validation_examples": 5000, **sections["data"]}
    with pytest.raises(ConfigError) as error:
        train(taught.replace(**sections), tmp_path / "run")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_is_imported_is_refused(taught, teacher, tmp_path):
    imported = shutil.copytree(teacher, tmp_path / "net")
    card = json.loads((imported / "card.json").read_text())
    (imported / "card.json").write_text(json.dumps(card | {"imported": "net.pth"}))
    with pytest.raises(ConfigError, match="must have been trained here"):
        load_teacher(taught.replace(distill={"teacher": str(imported)}))


def test_a_teacher_that_is_not_there(taught, whole, tmp_path):
    with pytest.raises(ConfigError, match=f"and {tmp_path}/none does not exist"):
        train(taught.replace(distill={"teacher": str(tmp_path / "none")}), tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="cannot be read"):
        train(taught.replace(distill={"teacher": str(tmp_path / "empty")}), tmp_path / "run")
    with pytest.raises(ConfigError, match=f" export --workdir {whole[0]} --output my/teacher$"):
        train(taught.replace(distill={"teacher": str(whole[0])}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_a_teacher_its_fields_are_no_part_of_a_run():
    plain = load_config("configs/200k.py")
    assert plain.replace(distill={"weight": 0.5}).sha256 == plain.sha256
    assert plain.replace(distill={"teacher": "runs/teacher"}).sha256 != plain.sha256
    assert changes(plain, plain.replace(distill={"weight": 0.5})) == []
    assert len(changes(plain, plain.replace(distill={"teacher": "x", "weight": 0.5}))) == 2


def test_a_sweep_refuses_a_missing_teacher_before_it_trains(taught, tmp_path):
    grid = {"distill.teacher": [taught.distill.teacher, str(tmp_path / "none")]}
    with pytest.raises(ConfigError, match=f"and {tmp_path}/none does not exist; without a teacher"):
        sweep_grid(taught, grid, [0], tmp_path / "grid")
    assert not (tmp_path / "grid").exists()
