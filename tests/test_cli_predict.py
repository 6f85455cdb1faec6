"""The command predict: the first in a process of its own."""

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from test_cli import ROOT, run

import cifar_jax
from cifar_jax.data import CLASS_NAMES

WEIGHTS = ("--weights", "pretrained/200k_quick")


def test_predict(run_here, tmp_path):
    """Tables, CSV and JSON are the same rows; a bad file is one line, and the others go on."""
    rng = np.random.default_rng(0)
    for name, shape in (("b.png", (32, 32, 3)), ('a, "1".jpg', (50, 70, 3)), ("c.gif", (9, 9))):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / name)
    (tmp_path / "b.jpg").write_text("not an image")
    (tmp_path / "notes.txt").write_text("not an image either")
    words = ("--eval.batch-size", "2", tmp_path, *WEIGHTS, "--top", "2")
    form = run("predict", *words, "--json")
    assert form.returncode == 1
    bad = f"main.py: {tmp_path / 'b.jpg'}: not an image of a format that Pillow reads\n"
    left = f"main.py: {tmp_path}: files of other kinds are left out: .txt 1\n"
    assert form.stderr == left + bad
    found = json.loads(form.stdout)
    names = [str(tmp_path / name) for name in ('a, "1".jpg', "b.png", "c.gif")]
    assert [row["file"] for row in found] == names
    net = cifar_jax.load(ROOT / "pretrained" / "200k_quick")
    expected = net.predict(np.stack([cifar_jax.read_image(name) for name in names]))
    for row, probabilities in zip(found, expected, strict=True):
        best = np.argsort(-probabilities)[:2]
        assert [each["class"] for each in row["classes"]] == [CLASS_NAMES[k] for k in best]
        shares = [each["probability"] for each in row["classes"]]
        np.testing.assert_allclose(shares, probabilities[best], atol=1e-5)
    table = run_here("predict", *words, "--csv")
    assert (table.returncode, table.stderr) == (1, left + bad)
    rows = list(csv.DictReader(io.StringIO(table.stdout)))
    assert [(row["file"], int(row["rank"])) for row in rows] == [
        (name, rank) for name in names for rank in (1, 2)
    ]
    assert [(row["class"], float(row["probability"])) for row in rows] == [
        tuple(each.values()) for row in found for each in row["classes"]
    ]
    shown = run_here("predict", names[0], *words[:2], names[2], *WEIGHTS, "--top", "1")
    assert (shown.returncode, shown.stderr) == (0, "")
    for line, row in zip(shown.stdout.splitlines(), (found[0], found[2]), strict=True):
        best = row["classes"][0]
        assert line == f"{best['class']:10} {best['probability']:7.2%}  {row['file']}"
    nothing = run_here("predict", tmp_path / "b.jpg", *WEIGHTS, "--json")
    assert (nothing.returncode, nothing.stderr) == (2, bad)


def test_closed_standard_streams(tmp_path):
    """What is printed goes nowhere, and into no file that has the number of standard output."""
    path, cache = tmp_path / "a.png", tmp_path / "cache"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    words = [sys.executable, "main.py", "predict", str(path), *WEIGHTS]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(cache)},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0
    assert not [
        file for file in cache.rglob("*") if file.is_file() and b"a.png" in file.read_bytes()
    ]


def test_predict_with_views(run_here, tmp_path):
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    net, shares = cifar_jax.load(ROOT / "pretrained" / "200k_quick"), []
    for mode in ("none", "flip", "full"):
        words = (path, *WEIGHTS, "--top", "1", "--json", "--tta", mode)
        (row,) = json.loads(run_here("predict", *words).stdout)
        shares.append(row["classes"][0]["probability"])
        assert shares[-1] == pytest.approx(net.predict(pixels[None], mode=mode).max(), abs=1e-5)
    assert np.ptp(shares) > 1e-3


def test_a_file_that_cannot_be_read_is_told_although_the_command_fails_later(run_here, tmp_path):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    done = run_here("predict", tmp_path / "gone.jpg", tmp_path / "a.png", "--weights", "nowhere")
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first == f"main.py: {tmp_path / 'gone.jpg'}: cannot be read: No such file or directory"
    assert second.startswith("main.py: nowhere/card.json: cannot be read: ")
