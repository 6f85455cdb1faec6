"""Runs side by side: order, means and what differs are those of the runs' files."""

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from test_run_page import Page
from tiny_runs import copy_run

from cifar_jax.cli import main
from cifar_jax.errors import ConfigError
from cifar_jax.runtime.comparison import compare, describe
from cifar_jax.runtime.records import expand, read, seed_of


@pytest.fixture
def make(whole, tiny, tmp_path):
    """Makes a run of another config and result in a folder, of a run's files."""
    return lambda name, *figures, **sections: copy_run(
        whole, tiny, tmp_path / name, *figures, **sections
    )


@pytest.fixture
def runs(make, tmp_path) -> list[Path]:
    """A sweep of three seeds, one of them not finished, and two runs of other recipes."""
    for seed, accuracy in ((10, 0.8), (2, 0.7), (3, None)):
        make(f"sweep/seed{seed}", accuracy, train={"seed": seed})
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    faster = make("faster", 0.75, optim={"learning_rate": 0.2}, train={"checkpoint_every": 2})
    return [tmp_path / "sweep", faster, make("plain", 0.6, augment={"mixup": 0.0, "flip": 0.25})]


def test_a_sweep_stands_for_its_runs(runs):
    sweep, faster, plain = runs
    seeds = [sweep / f"seed{seed}" for seed in (2, 3, 10)]
    assert expand(runs) == [*seeds, faster, plain]
    assert expand([faster, sweep, seeds[2], faster]) == [faster, *seeds]


def test_a_grid_stands_for_the_runs_of_its_points(make, tmp_path):
    runs = [
        make(f"grid/optim.momentum={momentum}/seed{seed}", 0.5, train={"seed": seed})
        for momentum in (0.8, 0.9)
        for seed in (0, 1)
    ]
    for name in ("figures", ".ipynb_checkpoints"):
        (tmp_path / "grid" / name).mkdir()
    begun = tmp_path / "grid" / "optim.momentum=0.95" / "seed0"
    begun.mkdir(parents=True)
    assert expand([tmp_path / "grid"]) == runs  # that are not finished yet
    begun.rmdir()
    begun.parent.rmdir()
    (tmp_path / "grid" / "grid.json").write_text("{}")
    make("grid/beside", 0.5)
    assert expand([tmp_path / "grid"]) == runs
    assert read(runs[-1]).name == "optim.momentum=0.9/seed1"


@pytest.mark.parametrize("words", [("compare",), ("report", "--workdir")])
def test_a_grid_without_runs(words, tmp_path, capsys):
    (tmp_path / "grid.json").write_text("{}")
    assert main([*words, str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith(f"{tmp_path} has a grid.json, but no folder of a run\n")


def test_the_next_seed_of_a_sweep_may_have_no_file_yet(runs):
    (runs[0] / "seed11").mkdir()
    assert len(expand(runs[:1])) == 3


def test_words_after_an_option_are_runs(runs, tmp_path, capsys):
    page = tmp_path / "x.html"
    assert main(["compare", str(runs[1]), "--output", str(page), str(runs[2])]) == 0
    assert "2 runs side by side" in Page(page).text
    assert capsys.readouterr().out.count("75.00%") == 1


@pytest.mark.parametrize("name", ["ema_test_accuracy", "seconds"])
def test_a_figure_that_is_none(make, capsys, name):
    folder = make("x", 0.5)
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(results | {name: None}))
    assert main(["compare", str(folder)]) == 2
    assert f"{name} must be a number, not None" in capsys.readouterr().err


def test_a_run_that_was_changed_is_a_recipe_of_its_own(make):
    """One that was trained for longer is not averaged with one that was so long from the start."""
    folders = [
        make(f"sweep/seed{seed}", 0.5 + seed / 10, train={"seed": seed}) for seed in range(4)
    ]
    for folder in folders[2:]:
        results = json.loads((folder / "results.json").read_text())
        change = {"step": 20, "field": "train.epochs", "old": 2, "new": 4}
        (folder / "results.json").write_text(json.dumps(results | {"config_changes": [change]}))
    found = compare([read(folder) for folder in folders])
    assert [[r.name for r in recipe] for recipe in found.recipes] == [
        ["sweep/seed3", "sweep/seed2"], ["sweep/seed1", "sweep/seed0"]
    ]  # fmt: skip
    assert [row[:2] for row in found.means().rows] == [["sweep, changed", "2"], ["sweep", "2"]]
    line = "config changed at step 20: train.epochs: 2 -> 4"
    assert describe(found).splitlines()[-2:] == [f"sweep/seed{seed}: {line}" for seed in (3, 2)]


def test_means_are_of_sweeps_and_not_of_the_better_of_two(make):
    """As on two devices: of the same config, or but for what decides no result."""
    accuracies = {"cpu": {1: 0.90, 2: 0.80, 3: 0.85}, "gpu": {0: 0.85, 1: 0.88, 2: 0.80, 3: 0.83}}
    records = [
        read(make(f"{name}/seed{seed}", accuracy, train={"seed": seed}))
        for name, own in accuracies.items()
        for seed, accuracy in own.items()
    ]
    for order in itertools.permutations(records):
        if random.Random(str(order)).random() < 0.02:  # a hundred of 5,040
            found = compare(order)
            assert [recipe[0].name for recipe in found.recipes] == ["cpu/seed1", "gpu/seed1"]
            assert [row[:2] for row in found.means().rows] == [["cpu", "3"], ["gpu", "4"]]
            means = [row[2].replace("\N{NO-BREAK SPACE}", "") for row in found.means().rows]
            assert [mean.split("%")[0] for mean in means] == ["85.00", "84.00"]


def test_seeds_in_two_folders_are_one_recipe(make):
    found = compare([read(make(f"{s}/seed{s}", 0.5, train={"seed": s})) for s in (1, 2)])
    assert [row[:2] for row in found.means().rows] == [["1/seed1 and 1 more", "2"]]


def test_seeds_that_other_weights_have_taught_are_not_averaged(make):
    folders = [make(f"sweep/seed{n}", 0.5, train={"seed": n}) for n in range(4)]
    for folder, sha256 in zip(folders, ("a" * 64, "a" * 64, "b" * 64, "b" * 64), strict=True):
        results = json.loads((folder / "results.json").read_text())
        teacher = {"path": "runs/teacher", "file_sha256": sha256, "parameters": 1}
        (folder / "results.json").write_text(json.dumps(results | {"teacher": teacher}))
    found = compare([read(folder) for folder in folders])
    names = ["sweep/seed0 and 1 more", "sweep/seed2 and 1 more"]
    assert [row[:2] for row in found.means().rows] == [[name, "2"] for name in names]
    teacher = found.records[0].config.distill.teacher
    lines = [f"sweep/seed{n}: taught by {teacher}, SHA-256 {16 * s}" for n, s in enumerate("aabb")]
    assert describe(found).splitlines()[-4:] == lines
    same = compare([read(folder) for folder in folders[:2]])
    assert "taught" not in describe(same)


def test_order_means_and_fields(runs):
    found = compare([read(folder) for folder in expand(runs)])
    head, rows = found.figures()
    names = ["sweep/seed10", "faster", "sweep/seed2", "plain", "sweep/seed3"]
    assert [row[0] for row in rows] == names
    assert [row[1].replace("\N{NO-BREAK SPACE}", "") for row in rows] == [
        "80.00%", "75.00%", "70.00%", "60.00%", "unfinished"
    ]  # fmt: skip
    assert rows[-1][head.index("epoch")] == "4 of 4"
    assert found.fields == [
        "augment.flip", "augment.mixup", "optim.learning_rate", "train.seed",
        "train.checkpoint_every",
    ]  # fmt: skip
    assert head[-1] == "train.seed"  # the others are too many to stand here
    assert [row[-1] for row in rows] == ["10", "0", "2", "0", "3"]
    (means,) = found.means().rows
    std = 100 * np.std([0.8, 0.7], ddof=1)
    assert means[:2] == ["sweep", "2"]
    assert means[2].replace("\N{NO-BREAK SPACE}", "") == f"75.00% ± {std:.2f}%"
    settings = found.settings()
    assert settings.head == ["field", "sweep", "faster", "plain"]
    assert settings.rows == [
        ["augment.flip", "0.5", "0.5", "0.25"],
        ["augment.mixup", "0.3", "0.3", "0.0"],
        ["optim.learning_rate", "0.1", "0.2", "0.1"],
    ]


def test_few_fields_stand_beside_the_figures(runs):
    found = compare([read(folder) for folder in expand(runs[1:])])
    assert found.figures().head[-4:] == list(found.fields)
    assert found.figures().rows[0][-4:] == ["0.5", "0.3", "0.2", "2"]
    assert not found.settings().rows
    assert not found.means().rows


def test_the_same_seed_twice_is_no_spread(make):
    folders = [make("one/run", 0.6), make("two/run", 0.8)]
    found = compare([read(folder) for folder in folders])
    assert not found.means().rows
    assert [row[0] for row in found.figures().rows] == [str(folders[1]), str(folders[0])]


def test_the_command(runs, tmp_path, capsys):
    output = tmp_path / "compare.html"
    assert main(["compare", *map(str, runs), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    found = compare([read(folder) for folder in expand(runs)])
    assert printed == f"{describe(found)}\n\n{output}\n"
    lines = printed.splitlines()
    assert lines[1].split()[:2] == ["sweep/seed10", "80.00%"]
    assert len({len(line) for line in lines[1:5]}) == 1  # columns
    page = Page(output)
    assert page.sections == ["figures", "curves", "config"]
    assert "5 runs side by side" in page.text
    assert "The highest test accuracy is 80.00 %, of sweep/seed10." in page.text
    assert "75.00 % ± 7.07 %" in page.text
    assert "sweep, 3 runs" in page.text
    assert len(page.of("svg")) == 3
    assert all("of 5 runs" in str(chart["aria-label"]) for chart in page.of("svg"))


def test_what_is_chosen_is_chosen_by_validation(make, tmp_path, capsys):
    folders = [make("lucky", 0.9, 0.5), make("better", 0.8, 0.7, optim={"learning_rate": 0.2})]
    output = tmp_path / "compare.html"
    assert main(["compare", *map(str, folders), "--output", str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["run", "validation", "test"]
    assert lines[1].split()[:3] == ["better", "70.00%", "80.00%"]
    assert "is 70.00 %, of better, whose test accuracy is 80.00 %." in Page(output).text
    assert "needs other images" not in Page(output).text


def test_accuracies_on_other_images_are_not_compared(make):
    folders = [make("few", 0.9, 0.5), make("more", 0.8, 0.7, data={"validation_examples": 20})]
    found = compare([read(folder) for folder in folders])
    assert [row[0] for row in found.figures().rows] == ["few", "more"]
    assert found.figures().head[1] == "validation"


def test_generated_images_are_no_held_out_ones_of_cifar10(make):
    first, second = (read(make(name, 0.9, 0.5)) for name in ("a", "b"))

    def by(data, other):
        configs = (first.config.replace(data=data), second.config.replace(data=other))
        return compare([first._replace(config=configs[0]), second._replace(config=configs[1])]).by

    real = {"source": "cache", "train_examples": 0}
    made = {"source": "synthetic", "train_examples": 0}
    assert by(real, made) == "ema_test_accuracy"
    assert by(made, made | {"train_examples": 4999}) == "ema_test_accuracy"
    assert by(made, made | {"train_examples": 5000}) == "ema_validation_accuracy"
    assert by(real, real | {"train_examples": 1000}) == "ema_validation_accuracy"


def test_names_that_a_terminal_would_obey_are_escaped(make, capsys):
    folder = make("odd\x1b[31m\nname", 0.5)
    assert main(["compare", str(folder), "--output", str(folder / "page.html")]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(r"odd\x1b[31m\nname  ")


def test_a_run_of_another_version_is_named(make, capsys):
    folder = make("x", 0.5)
    (folder / "config.json").write_text('{"train": {"small_side": 24}}')
    assert main(["compare", str(folder)]) == 2
    assert f"{folder / 'config.json'}: train.small_side: no such field" in capsys.readouterr().err


def test_a_folder_of_other_runs_is_no_grid(make, tmp_path):
    make("several/lr=0.1", 0.5)
    make("several/plain", 0.6)
    assert expand([tmp_path / "several"]) == [tmp_path / "several"]  # which is refused


def test_folders_of_a_seed_and_a_link_in_a_circle(tmp_path):
    assert [seed_of(Path(name)) for name in ("seed0", "seed10", "seed00")] == [0, 10, None]
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(ConfigError, match=r"config\.json: cannot be read"):
        read(loop)
