"""The notebook runs from its first cell to its last, and is its source."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def source_cells():
    """The cells of the percent format: markdown is in comments."""
    head, *cells = re.split(r"^# %%", (NOTEBOOKS / "tour.py").read_text(), flags=re.MULTILINE)
    assert "jupytext" in head
    found = []
    for cell in cells:
        kind, _, text = cell.partition("\n")
        if kind == " [markdown]":
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        found.append(("markdown" if kind else "code", text.strip()))
    return found


def test_the_notebook_is_its_source():
    notebook = json.loads((NOTEBOOKS / "tour.ipynb").read_text())
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert cells == source_cells(), "jupytext --update --to ipynb notebooks/tour.py"
    assert not any(cell.get("outputs") for cell in notebook["cells"])


def test_the_notebook_runs(tmp_path):
    options = {
        "MPLBACKEND": "Agg",
        "CIFAR_JAX_TOUR": "synthetic",
        "JAX_PLATFORMS": "cpu",
        "DISPLAY": "",
    }
    path = os.pathsep.join([str(NOTEBOOKS.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "tour.py"],
        cwd=NOTEBOOKS,
        env=os.environ | options | {"TMPDIR": str(tmp_path), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "epoch 4/4" in done.stdout
    accuracy = re.search(r"^test accuracy (\d+\.\d+)%", done.stdout, re.MULTILINE)
    assert accuracy
    assert float(accuracy[1]) > 60
    card = json.loads((NOTEBOOKS.parent / "pretrained" / "200k_quick" / "card.json").read_text())
    assert f"150,690 parameters, test accuracy {card['accuracy']:.2%}" in done.stdout
