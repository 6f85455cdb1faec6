"""Commands as a user types them: the first of each kind in a process of its own."""

import dataclasses
import hashlib
import inspect
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from cifar_jax import cli
from cifar_jax.config import Config, to_dict
from cifar_jax.data import CLASS_NAMES, DataError, make_synthetic
from cifar_jax.errors import ConfigError
from cifar_jax.runtime import environment, sweep

ROOT = Path(__file__).parents[1]
SMOKE = ("--config", "configs/smoke.py")
BY_CLASS = "by class               of the averaged weights"


@pytest.mark.parametrize("full", [False, True])
def test_standard_output_that_takes_nothing(full):
    """A full disk is a failure, a reader that has gone is none; neither ends in a traceback."""
    read, write = os.pipe()
    os.close(read)
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") if full else os.fdopen(write, "w") as stream:
        done = subprocess.run(
            [sys.executable, "main.py", "--version"],
            cwd=ROOT,
            env=kept,
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    message = "main.py: [Errno 28] No space left on device: 'standard output'\n"
    assert (done.returncode, done.stderr) == ((1, message) if full else (0, ""))


def run(*words, without=(), **options):
    """A command in a process of its own, without variables whose names begin so."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(tuple(without))}
    return subprocess.run(
        [sys.executable, "main.py", *map(str, words)],
        cwd=ROOT,
        env=kept | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


@pytest.mark.parametrize("words", [["--version"], ["eval", "--version"]])
def test_versions_are_those_of_a_result(words, capsys):
    assert cli.main(words) == 0
    shown = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert shown == environment.versions()
    assert shown["jax"] == jax.__version__


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("a folder") / "smöke"
    return workdir, run(*SMOKE, "--workdir", workdir)


def test_smoke(smoke):
    workdir, done = smoke
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("cifar_jax ")
    assert "cpu: " in lines[0]
    assert "\r" not in done.stdout
    assert sum(line.startswith("epoch ") for line in lines) >= 8
    results = json.loads((workdir / "results.json").read_text())
    assert results["ema_test_accuracy"] > 0.6
    assert results["epochs"] == 8
    assert results["settings"]["XLA_FLAGS"] == os.environ["XLA_FLAGS"]
    assert f"test accuracy          {results['ema_test_accuracy']:.2%}" in lines
    assert f"  not averaged         {results['test_accuracy']:.2%}" in lines
    assert f"  with tta full        {results['tta_accuracy']:.2%}" in lines
    classes = dict(line.rsplit(maxsplit=1) for line in lines[lines.index(BY_CLASS) + 1 :][:10])
    assert classes == {f"  {k}": f"{v:.2%}" for k, v in results["per_class_accuracy"].items()}
    assert len(list((workdir / "checkpoints").iterdir())) == 8 + 1  # and the pointer
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == 8
    for name in ("curves", "confusion", "augmentations"):
        with Image.open(workdir / f"{name}.png") as picture:
            assert min(picture.size) > 200
            assert np.asarray(picture).std() > 5


def test_a_finished_run_prints_its_result(smoke):
    workdir, first = smoke
    again = run(*SMOKE, "--workdir", workdir)
    assert again.returncode == 0
    assert again.stdout.splitlines() == first.stdout.splitlines()[-len(again.stdout.splitlines()) :]


def test_eval(smoke, run_here):
    workdir, _ = smoke
    results = json.loads((workdir / "results.json").read_text())
    found = run("eval", "--workdir", workdir, "--json")
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    figures = json.loads(found.stdout)
    step = figures.pop("step")
    assert figures == {name: results[name] for name in figures}
    assert figures["test_images"] == sum(figures["reliability"]["images"]) == 1000
    assert str(step) in {path.name for path in (workdir / "checkpoints").iterdir()}
    flip = run_here("eval", "--workdir", workdir, "--eval.tta", "flip", "--split", "validation")
    assert flip.returncode == 0, flip.stderr
    assert "tta flip" in flip.stdout
    assert f"validation accuracy    {results['ema_validation_accuracy']:.2%}" in flip.stdout
    assert f"  not averaged         {results['validation_accuracy']:.2%}" in flip.stdout


def test_eval_tells_what_a_download_takes(run_here, tmp_path, monkeypatch):
    def fetch(data_dir, source, *, report):
        report("cifar10: 1.0/170.1 MB")
        raise DataError("download: gone")

    monkeypatch.setattr("cifar_jax.data.load_cifar10", fetch)
    (tmp_path / "config.json").write_text(json.dumps(to_dict(Config())))
    for network in (("--weights", "pretrained/200k_quick"), ("--workdir", tmp_path)):
        done = run_here("eval", *network, "--json")
        assert (done.returncode, done.stdout) == (2, "")
        told = ["main.py: cifar10: 1.0/170.1 MB", "main.py: download: gone"]
        assert done.stderr.splitlines()[-2:] == told


def test_exported_weights_give_the_same_figures(smoke, run_here, tmp_path):
    workdir, _ = smoke
    results = json.loads((workdir / "results.json").read_text())
    done = run_here(
        "export", "--workdir", workdir, "--output", tmp_path / "smoke", "--limits", "None."
    )
    assert done.returncode == 0, done.stderr
    assert f"{results['ema_test_accuracy']:.2%}" in done.stdout
    found = run_here("eval", "--weights", tmp_path / "smoke", "--json")
    assert found.returncode == 0, found.stderr
    figures = json.loads(found.stdout)
    assert figures["accuracy"] == figures["card_accuracy"] == results["ema_test_accuracy"]
    assert figures["tta_accuracy"] == results["tta_accuracy"]
    words = ("--all-views", "--eval.tta", "none", "--pictures", tmp_path / "new" / "pictures")
    shown = run_here("eval", "--weights", tmp_path / "smoke", *words)
    lines = shown.stdout.splitlines()
    assert f"  with tta full        {figures['views']['full']['accuracy']:.2%}" in lines
    assert f"top-2 accuracy         {figures['top2_accuracy']:.2%}" in lines
    assert f"calibration error      {figures['calibration_error']:.2%}" in lines
    confusion = [line.split()[2:] for line in lines if line.split()[0] in CLASS_NAMES]
    assert [[int(count) for count in row] for row in confusion] == figures["confusion"]
    for name in ("confusion", "reliability"):
        with Image.open(tmp_path / "new" / "pictures" / f"{name}.png") as picture:
            assert min(picture.size) >= 900
            assert np.asarray(picture).std() > 5
    assert f"test accuracy          {results['ema_test_accuracy']:.2%}" in shown.stdout
    assert "tta none" not in shown.stdout
    other = run_here("eval", "--weights", tmp_path / "smoke", "--model.stem", "9")
    assert other.returncode == 2
    assert "belongs to its config, so not model.stem: 8 -> 9" in other.stderr
    assert other.stderr.count("\n") == 1


def test_report_and_compare(smoke, run_here, tmp_path):
    workdir, _ = smoke
    accuracy = json.loads((workdir / "results.json").read_text())["ema_test_accuracy"]
    done = run_here("report", "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith(f"{workdir / 'report.html'}: ")
    page = (workdir / "report.html").read_text(encoding="utf-8")
    assert f"{100 * accuracy:.2f}\N{NO-BREAK SPACE}% of the 1,000 test images are" in page
    (tmp_path / "new").mkdir()
    shutil.copy(workdir / "config.json", tmp_path / "new")
    done = run_here("compare", tmp_path / "new", workdir, "--output", tmp_path / "compare.html")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["run", "validation", "test"]
    name, _, averaged, *_ = lines[1].split()
    assert (name, averaged) == ("smöke", f"{accuracy:.2%}")
    assert lines[2].split() == ["new", "unfinished", "0", "of", "8"]
    assert lines[-1] == str(tmp_path / "compare.html")
    assert "2 runs side by side" in (tmp_path / "compare.html").read_text(encoding="utf-8")


def test_sweep(run_here, tmp_path):
    words = ["sweep", "--config", "tests/faults/tiny.py", "--workdir", tmp_path]
    words += ["--train.epochs", "1", "--seeds", "0", "1"]
    done = run_here(*words)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert found["ema_test_accuracy"]["n"] == 2
    assert found["command"] == shlex.join(["python", "main.py", *map(str, words)])
    lines = done.stdout.splitlines()
    assert lines[-1] == str(tmp_path / "sweep.json")
    assert f"mean           {found['ema_test_accuracy']['mean']:14.2%}" in done.stdout
    again = run_here(*words)
    assert again.stdout.splitlines()[-8:] == lines[-8:]


@pytest.mark.parametrize("grid", [(), ("--grid", "optim.momentum=0.8,0.9")])
def test_options_of_a_sweep(run_here, monkeypatch, tmp_path, grid):
    asked = []

    def refuse(*arguments, **options):
        asked.append(options)
        raise ConfigError("enough")

    monkeypatch.setattr(sweep, "sweep_grid" if grid else "sweep", refuse)
    words = ["sweep", *SMOKE, "--workdir", tmp_path, *grid]
    for more in ([], ["--allow-config-change", "--side-by-side", "3", "--log", "tensorboard"]):
        assert run_here(*words, *more).stderr == "main.py: enough\n"
    names = ("allow_config_change", "side_by_side", "log")
    found = [tuple(options[name] for name in names) for options in asked]
    assert found == [(False, None, []), (True, 3, ["tensorboard"])]


def test_every_field_has_a_comment():
    for section in dataclasses.fields(Config):
        source = inspect.getsource(type(getattr(Config(), section.name))).splitlines()
        for field in dataclasses.fields(getattr(Config(), section.name)):
            (line,) = [line for line in source if line.startswith(f"    {field.name}: ")]
            assert "  # " in line


def test_summary(run_here, tmp_path):
    picture = tmp_path / "architecture.png"
    done = run_here("summary", "--config", "configs/200k.py", "--picture", picture)
    assert "Total Parameters" not in done.stdout  # Flax's, which counts batch statistics
    assert done.returncode == 0, done.stderr
    assert "stage4_block2" in done.stdout
    for line in ("skip: None", "150,690", "109 pixels", "8,409,920 an image"):
        assert line in done.stdout
    with Image.open(picture) as image:
        assert min(image.size) > 500


def test_data(run_here):
    done = run_here("data", *SMOKE)
    assert done.returncode == 0, done.stderr
    images = make_synthetic(1_200).train_images  # those of a run, before the split
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    assert f"train_images  uint8 [1200, 32, 32, 3]  sha256 {digest}" in done.stdout
    done = run_here("data", "--data.source", "synthetic")  # the default config
    assert "train_images  uint8 [10000, 32, 32, 3]  sha256 " in done.stdout
