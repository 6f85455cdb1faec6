import json
import shutil
import signal

import numpy as np
import pytest
from scipy import stats
from tiny_runs import stop_in_chunk

from cifar_jax.errors import ConfigError
from cifar_jax.runtime import sweep as sweep_module
from cifar_jax.runtime.describe import describe_grid, describe_sweep
from cifar_jax.runtime.signals import Interrupted
from cifar_jax.runtime.statistics import summarize
from cifar_jax.runtime.sweep import sweep, sweep_grid


def test_summary_by_formula():
    values = [0.91, 0.93, 0.90, 0.92, 0.95]
    found = summarize(values)
    assert found["n"] == 5
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found["std"] == pytest.approx(np.sqrt(((np.array(values) - 0.922) ** 2).sum() / 4))
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (found["low"], found["high"]) == pytest.approx((low, high))


def test_one_value_has_no_spread():
    assert summarize([0.5]) == {"n": 1, "mean": 0.5, "std": None, "low": None, "high": None}


@pytest.fixture(scope="module")
def swept(light, tmp_path_factory, compilation_cache):
    folder = tmp_path_factory.mktemp("sweep") / "tiny"
    return folder, sweep(light.replace(train={"epochs": 2}), [3, 1], folder, command="the command")


def test_a_sweep_is_its_runs(swept):
    folder, found = swept
    assert json.loads((folder / "sweep.json").read_text()) == found
    assert found["seeds"] == [3, 1]
    assert found["command"] == "the command"
    runs = [json.loads((folder / f"seed{seed}" / "results.json").read_text()) for seed in (3, 1)]
    assert [run["seed"] for run in runs] == [3, 1]
    assert runs[0]["weights_sha256"] != runs[1]["weights_sha256"]
    for name in ("ema_test_accuracy", "test_accuracy", "tta_accuracy", "settings"):
        assert [run[name] for run in found["runs"]] == [run[name] for run in runs]
    for name in ("ema_test_accuracy", "test_accuracy", "tta_accuracy"):
        assert found[name] == summarize([run[name] for run in runs])


def test_another_seed_trains_only_itself(swept, light, monkeypatch):
    folder, found = swept
    trained, real = [], sweep_module.train

    def spy(config, workdir, **options):
        if not (workdir / "results.json").exists():
            trained.append(config.train.seed)
        return real(config, workdir, **options)

    monkeypatch.setattr(sweep_module, "train", spy)
    again = sweep(light.replace(train={"epochs": 2}), [3, 1, 5], folder)
    assert trained == [5]
    assert again["runs"][:2] == found["runs"]
    assert again["ema_test_accuracy"]["n"] == 3


def test_stopped_and_continued(swept, light, tmp_path, monkeypatch):
    """Where the first seed is done and the second is not."""
    _, found = swept
    config, real = light.replace(train={"epochs": 2}), sweep_module.train

    def interrupt_the_second(config, workdir, **options):
        if config.train.seed == 1:
            raise Interrupted(signal.SIGTERM)
        return real(config, workdir, **options)

    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "train", interrupt_the_second)
        with pytest.raises(Interrupted):
            sweep(config, [3, 1], tmp_path)
    assert (tmp_path / "seed3" / "results.json").exists()
    assert not (tmp_path / "sweep.json").exists()
    again = sweep(config, [3, 1], tmp_path)
    assert [run["weights_sha256"] for run in again["runs"]] == [
        run["weights_sha256"] for run in found["runs"]
    ]


def test_finished_runs_are_not_left_out(swept, gridded, light):
    with pytest.raises(ConfigError, match=r"seed1, seed3.* as well: sweep them too"):
        sweep(light, [7], swept[0])
    message = r"has optim\.learning-rate=0\.1,model\.stem=12/seed3, .*, optim\.\S+/seed4 as well"
    with pytest.raises(ConfigError, match=message):
        sweep_grid(light, {"optim.momentum": ["0.9"]}, [3], gridded[0])
    assert not list(gridded[0].glob("optim.momentum*"))


def test_a_seed_that_another_sweep_adds_meanwhile(swept, light, tmp_path, monkeypatch):
    folder = tmp_path / "sweep"
    shutil.copytree(swept[0] / "seed3", folder / "seed3")

    def trained(*_, **__):
        shutil.copytree(swept[0] / "seed1", folder / "seed1")
        return {}

    monkeypatch.setattr(sweep_module, "_train_all", trained)
    with pytest.raises(ConfigError, match=r"has seed1 as well: sweep them too"):
        sweep(light.replace(train={"epochs": 2}), [3], folder)
    assert not (folder / "sweep.json").exists()


@pytest.mark.parametrize("values", [None, ["0.9"]])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sweep.json", r"sweep\.json has no runs beside it, so it is no sweep's: use another"),
        ("sweep.png", r"sweep\.png has no runs beside it, so it is no sweep's: use another"),
        ("seed2/log.txt", r"seed2/log\.txt has no config\.json beside it, so it is no run's: use"),
    ],
)
def test_files_of_others_are_not_replaced(light, tmp_path, monkeypatch, values, name, message):
    monkeypatch.setattr(sweep_module, "train", lambda *_, **__: pytest.fail("it has begun"))
    path, grid = tmp_path / name, {"optim.momentum": values}
    if values:
        path = tmp_path / "optim.momentum=0.9" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with pytest.raises(ConfigError, match=message):
        sweep_grid(light, grid, [1, 2], tmp_path) if values else sweep(light, [1, 2], tmp_path)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]
    assert path.read_text() == "mine"


def test_the_table_of_another_is_not_replaced_by_that_of_a_grid(light, tmp_path):
    (tmp_path / "grid.json").write_text("mine")
    with pytest.raises(ConfigError, match=r"grid\.json has no runs beside it, so it is no grid's"):
        sweep_grid(light, {"optim.momentum": ["0.9"]}, [1], tmp_path)


@pytest.mark.parametrize("name", ["seconds", "multiply_adds"])
def test_results_that_lack_what_a_table_has(swept, light, tmp_path, name):
    shutil.copytree(swept[0] / "seed3", tmp_path / "seed3")
    path = tmp_path / "seed3" / "results.json"
    results = json.loads(path.read_text())
    del results[name]
    path.write_text(json.dumps(results))
    with pytest.raises(ConfigError, match=f"not a run's results: it has no {name}"):
        sweep(light.replace(train={"epochs": 2}), [3], tmp_path)


def test_a_run_of_a_grid_that_lacks_what_it_is_compared_by(gridded, light, tmp_path):
    grid = {"optim.learning-rate": ["0.1"], "model.stem": ["8"]}
    name = "optim.learning-rate=0.1,model.stem=8/seed3"
    shutil.copytree(gridded[0] / name, tmp_path / name)
    path = tmp_path / name / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"ema_validation_accuracy": None}))
    config = light.replace(train={"epochs": 1}, optim={"nonfinite_limit": 3})
    with pytest.raises(ConfigError, match="ema_validation_accuracy must be a number, not None"):
        sweep_grid(config, grid, [3], tmp_path)


@pytest.mark.parametrize("seeds", [[], [1, 2, 1]])
def test_seeds_differ(light, tmp_path, seeds):
    with pytest.raises(ConfigError, match="seeds must be at least one and differ, not"):
        sweep(light, seeds, tmp_path)


def test_the_table(swept):
    _, found = swept
    lines = describe_sweep(found).splitlines()
    assert lines[1].split()[:3] == ["seed", "3", f"{found['runs'][0]['ema_test_accuracy']:.2%}"]
    assert lines[3].split()[:2] == ["mean", f"{found['ema_test_accuracy']['mean']:.2%}"]
    assert [line.split("  ")[0] for line in lines[4:]] == ["std", "95 % from", "95 % to"]
    one = {**found, "runs": found["runs"][:1]}
    for name in ("ema_test_accuracy", "test_accuracy", "tta_accuracy", "seconds"):
        one[name] = summarize([found["runs"][0][name]])
    assert len(describe_sweep(one).splitlines()) == 3


def test_side_by_side_gives_the_same(swept, light, tmp_path):
    """On a CPU bit for bit."""
    _, found = swept
    again = sweep(light.replace(train={"epochs": 2}), [3, 1], tmp_path, side_by_side=2)
    for one, other in zip(found["runs"], again["runs"], strict=True):
        assert other["weights_sha256"] == one["weights_sha256"]
        assert (one["side_by_side"], other["side_by_side"]) == (1, 2)
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_ended_early(light, tmp_path, side_by_side):
    """In the epoch that it is in: with one after another the second seed has not begun."""
    how = {"side_by_side": side_by_side}
    stop_in_chunk(3, lambda asked: sweep(light, [3, 1], tmp_path, stop=asked, **how))
    fewer = light.replace(train={"epochs": 2})
    with pytest.raises(ConfigError, match=r"seed3 was trained otherwise \(train\.epochs: 4 -> 2\)"):
        sweep(fewer, [3, 1], tmp_path, **how)
    found = sweep(fewer, [3, 1], tmp_path, allow_config_change=True, **how)
    assert [run["epochs"] for run in found["runs"]] == [2, 2]
    change = {"step": 15, "field": "train.epochs", "old": 4, "new": 2}
    assert [run["config_changes"] for run in found["runs"]] == (
        [[change], []] if side_by_side == 1 else [[change], [change]]
    )
    told = [line for line in describe_sweep(found).splitlines() if "config changed" in line]
    assert told[0] == "seed 3: config changed at step 15: train.epochs: 4 -> 2"
    assert len(told) == side_by_side


def test_what_a_killed_process_left_is_removed(swept, light, tmp_path):
    for name in ("seed3", "seed1"):
        shutil.copytree(swept[0] / name, tmp_path / name)
    for name in (".sweep.7.json", ".sweep.7.png", ".sweep.mine.json"):
        (tmp_path / name).write_text("half")
    sweep(light.replace(train={"epochs": 2}), [3, 1], tmp_path)
    assert [path.name for path in tmp_path.glob(".*")] == [".sweep.mine.json"]  # the user's own


def test_a_sweep_with_a_finished_run_is_not_ended_early(swept, light):
    seeds = [int(path.name.removeprefix("seed")) for path in swept[0].glob("seed*")]
    message = r"holds a finished run, which does not go on \(train\.epochs: 2 -> 1\)"
    with pytest.raises(ConfigError, match=message):
        sweep(light.replace(train={"epochs": 1}), seeds, swept[0], allow_config_change=True)


def test_a_grid_is_ended_early(light, tmp_path):
    grid = {"optim.momentum": ["0.8"]}
    stop_in_chunk(1, lambda asked: sweep_grid(light, grid, [3], tmp_path, stop=asked))
    fewer = light.replace(train={"epochs": 1})
    found = sweep_grid(fewer, grid, [3], tmp_path, allow_config_change=True)
    (row,) = found["points"]
    assert row["config_changes"] == [{"step": 5, "field": "train.epochs", "old": 4, "new": 1}]
    text = "optim.momentum=0.8: config changed at step 5: train.epochs: 4 -> 1"
    assert describe_grid(found).splitlines()[-1] == text


GRID = {"optim.learning-rate": ["0.1", "1e6"], "model.stem": ["8", "12"]}


@pytest.fixture(scope="module")
def gridded(light, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    config = light.replace(train={"epochs": 1}, optim={"nonfinite_limit": 3})
    return folder, sweep_grid(config, GRID, [3, 4], folder, command="the command", side_by_side=4)


def test_a_grid_compares_by_validation_accuracy(gridded):
    folder, found = gridded
    assert json.loads((folder / "grid.json").read_text()) == found
    assert [row["values"] for row in found["points"]] == [
        {"optim.learning-rate": rate, "model.stem": stem}
        for rate in ("0.1", "1e6")
        for stem in ("8", "12")
    ]
    for row in found["points"][:2]:
        point = folder / row["folder"]
        runs = [json.loads((point / f"seed{s}" / "results.json").read_text()) for s in (3, 4)]
        accuracies = [run["ema_validation_accuracy"] for run in runs]
        assert row["failed"] is None
        assert row["accuracies"] == accuracies
        assert row["ema_validation_accuracy"] == summarize(accuracies)
        assert {run["side_by_side"] for run in runs} == {4}  # both rates; not the other stem
        config = json.loads((point / "seed3" / "config.json").read_text())
        assert str(config["model"]["stem"]) == row["values"]["model.stem"]
    assert "test" not in json.dumps(found["points"])
    assert (folder / "grid.png").exists()


def test_a_point_that_diverges_is_a_row(gridded):
    _, found = gridded
    for row in found["points"][2:]:
        assert "had a NaN or an infinity" in row["failed"]
        assert row["ema_validation_accuracy"] is None


def test_a_grid_is_finished_again(gridded, light):
    folder, found = gridded
    config = light.replace(train={"epochs": 1}, optim={"nonfinite_limit": 3})
    again = sweep_grid(config, GRID, [3, 4], folder, command="the command", side_by_side=4)
    assert [row["ema_validation_accuracy"] for row in again["points"]] == [
        row["ema_validation_accuracy"] for row in found["points"]
    ]
    assert [bool(row["failed"]) for row in again["points"]] == [False, False, True, True]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            {"optim.momentum": ["0.9", "0.9"]},
            r"each point once, not optim\.momentum=0\.9 and optim\.m",
        ),
        (
            {"data.validation-examples": ["40", "0"]},
            r"data\.validation_examples must be at least 1",
        ),
        ({"model.stages": ["8", "12"]}, r"a grid takes fields of one value, so not model\.stages"),
        ({"data.data-dir": ["a/b", "a_b"]}, r"each point once, not data\.data-dir=a_b and data\."),
        (
            {"optim.momentum": [".9", "0.8", "0.9"]},
            r"not optim\.momentum=\.9 and optim\.momentum=0\.9$",
        ),
        (
            {"data.validation-examples": ["40", "20"]},
            r"^\S+=20: must hold out the same images as the first: data\.\S+: 40 -> 20$",
        ),
        (
            {"data.split-seed": ["1", "2"]},
            r"^data\.split-seed=2: must hold out the same images .*: data\.split_seed: 1 -> 2$",
        ),
    ],
)
def test_points_that_cannot_be(tiny, tmp_path, grid, message):
    with pytest.raises(ConfigError, match=message):
        sweep_grid(tiny, grid, [0], tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_table_of_a_grid(gridded):
    _, found = gridded
    lines = describe_grid(found).splitlines()
    assert len(lines) == 5
    assert lines[1].startswith("optim.learning-rate=0.1,model.stem=8")
    assert f"{found['points'][0]['ema_validation_accuracy']['mean']:.2%}" in lines[1]
    assert sum(line.endswith("best") for line in lines[1:3]) >= 1
    assert "failed: epoch 1" in lines[3]


def test_a_grid_needs_validation_images(tiny, tmp_path):
    config = tiny.replace(data={"validation_examples": 0})
    with pytest.raises(
        ConfigError, match=r"9: data\.validation_examples must be at least 1 to compare by, not 0$"
    ):
        sweep_grid(config, {"optim.momentum": ["0.9"]}, [0], tmp_path)


def test_side_by_side_is_checked(tiny, tmp_path):
    with pytest.raises(ConfigError, match="side_by_side must be at least 1, not 0"):
        sweep(tiny, [0], tmp_path, side_by_side=0)
