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


def on(devices, folder, *what):
    """What the script has found of each."""
    number = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    environment["XLA_FLAGS"] += f" {number}"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *what],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A folder, and what several numbers of devices have found and written there."""
    folder = tmp_path_factory.mktemp("devices")
    return folder, {
        1: on(1, folder, "epoch", "batch", "members", "first_epoch"),
        8: on(8, folder, "epoch", "batch", "members", "rest", "first_epoch"),
    }


def arrays(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def distance(before, after):
    """Of two states, relative to the first."""
    assert before.keys() == after.keys()
    pairs = [(np.ravel(before[name]), np.ravel(after[name])) for name in before]
    a, b = (np.concatenate([pair[i].astype(float) for pair in pairs]) for i in (0, 1))
    return np.linalg.norm(b - a) / np.linalg.norm(a)


def test_an_epoch_of_eight_devices_is_that_of_one(found):
    folder, by = found
    one, eight = by[1]["epoch"], by[8]["epoch"]
    assert eight["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert eight["correct"] == pytest.approx(one["correct"], rel=1e-2)
    assert (one["all_reduce"], eight["all_reduce"]) == (False, True)
    assert eight["flops"] < 0.25 * one["flops"]  # of a device: the work is divided
    before, after = arrays(folder / "epoch1.npz"), arrays(folder / "epoch8.npz")
    assert distance(before, after) < 0.02


def test_the_same_batch_in_the_same_order(found):
    folder, by = found
    assert not by[8]["batch"]["talk"]  # pixel operations are each image's own
    before, after = arrays(folder / "batch1.npz"), arrays(folder / "batch8.npz")
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-5, atol=1e-5)
    assert before["arr_0"].shape == (16, 32, 32, 3)


def test_members_are_spread_over_devices(found):
    folder, by = found
    one, eight = by[1]["members"], by[8]["members"]
    assert (one["devices"], eight["devices"]) == (1, 4)
    assert eight["loss"] == pytest.approx(one["loss"], rel=1e-4)
    before, after = arrays(folder / "members1.npz"), arrays(folder / "members8.npz")
    assert distance(before, after) < 0.02


def test_a_run_goes_on_with_other_devices(found):
    folder, by = found
    for changes, what in (
        (by[8]["rest"], "device.count: 1 -> 8"),
        (on(1, folder, "rest")["rest"], "device.count: 8 -> 1"),
    ):
        of_devices = [change for change in changes if "XLA_FLAGS" not in change["change"]]
        assert of_devices == [{"step": 10, "change": what}]
        assert len(changes) == 2  # the flag is what makes eight devices of a CPU


def test_a_batch_that_cannot_be_spread(tiny, monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: list(range(3)))
    with pytest.raises(
        ConfigError, match=r"train\.batch_size must be a multiple of the 3 devices, not 20"
    ):
        Trainer(tiny).placement  # noqa: B018
