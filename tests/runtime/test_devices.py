"""One process with eight virtual devices does what it does with one.

Losses agree to rounding; weights less, because a ReLU near zero can open or close.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from cifar_jax.errors import ConfigError
from cifar_jax.runtime.trainer import Trainer

SCRIPT = Path(__file__).parent / "eight_devices.py"
ROOT = Path(__file__).parents[2]


def on(devices, what, folder):
    """The last line that the script prints, if any."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), what, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (done.stdout.splitlines() or [""])[-1]


def arrays(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def distance(before, after):
    """Of two states, relative to the first."""
    assert before.keys() == after.keys()
    pairs = [(np.ravel(before[name]), np.ravel(after[name])) for name in before]
    a, b = (np.concatenate([pair[i].astype(float) for pair in pairs]) for i in (0, 1))
    return np.linalg.norm(b - a) / np.linalg.norm(a)


def test_an_epoch_of_eight_devices_is_that_of_one(tmp_path):
    one, eight = (json.loads(on(devices, "epoch", tmp_path)) for devices in (1, 8))
    assert eight["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert eight["correct"] == pytest.approx(one["correct"], rel=1e-2)
    assert (one["all_reduce"], eight["all_reduce"]) == (False, True)
    assert eight["flops"] < 0.25 * one["flops"]  # of a device: the work is divided
    before, after = arrays(tmp_path / "epoch1.npz"), arrays(tmp_path / "epoch8.npz")
    assert distance(before, after) < 0.02


def test_the_same_batch_in_the_same_order(tmp_path):
    on(1, "batch", tmp_path)
    on(8, "batch", tmp_path)
    before, after = arrays(tmp_path / "batch1.npz"), arrays(tmp_path / "batch8.npz")
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-5, atol=1e-5)
    assert before["arr_0"].shape == (16, 32, 32, 3)


def test_members_are_spread_over_devices(tmp_path):
    one, four = (json.loads(on(devices, "members", tmp_path)) for devices in (1, 4))
    assert (one["mesh"], four["mesh"]) == (False, True)
    assert four["loss"] == pytest.approx(one["loss"], rel=1e-4)
    before, after = arrays(tmp_path / "members1.npz"), arrays(tmp_path / "members4.npz")
    assert distance(before, after) < 0.02


@pytest.mark.parametrize(("first", "then"), [(8, 1), (1, 8)])
def test_a_run_goes_on_with_other_devices(tmp_path, first, then):
    on(first, "first_epoch", tmp_path)
    changes = json.loads(on(then, "run", tmp_path))
    assert [change["change"] for change in changes] == [f"device.count: {first} -> {then}"]
    assert [change["step"] for change in changes] == [10]


def test_a_batch_that_cannot_be_spread(tiny, monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: list(range(3)))
    with pytest.raises(
        ConfigError, match=r"train\.batch_size must be a multiple of the 3 devices, not 20"
    ):
        Trainer(tiny).placement  # noqa: B018
