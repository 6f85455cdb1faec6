"""Runs side by side in one compiled loop are single runs."""

import jax
import numpy as np
import pytest

from cifar_jax.runtime.inputs import load_inputs
from cifar_jax.runtime.members import Members, fit, groups_of, varied_fields
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.trainer import Trainer

SLOW = ("brightness_contrast", "hue_saturation_value")  # to compile


@pytest.fixture(scope="module")
def config(tiny):
    return tiny.replace(
        model={"convolutions": "plain"},
        augment={"cutmix": 0.3, "mixup": 0.3} | dict.fromkeys(SLOW, 0.0),
        optim={"optimizer": "muon", "muon_learning_rate": 0.02},
    )


@pytest.fixture(scope="module")
def resident(config):
    return jax.device_put(load_inputs(config, report=print).train)


def quiet(config, members=1):
    return Progress(config.train.epochs, config.steps_per_epoch * config.train.batch_size * members)


def alone(config, resident, epochs=2):
    trainer = Trainer(config)
    state, sums = trainer.initial_state(), {}
    for epoch in range(1, epochs + 1):
        state, sums = trainer.train_epoch(state, epoch, resident, quiet(config))
    return state, sums


def together(configs, resident, vectorized, epochs=2):
    members = Members(configs, vectorized=vectorized)
    states, sums = members.initial_states(), {}
    for epoch in range(1, epochs + 1):
        states, sums = members.train_epoch(states, epoch, resident, quiet(configs[0], len(configs)))
    return members, states, members.split(sums)


@pytest.fixture(scope="module")
def seeds(config):
    return [config.replace(train={"seed": seed}) for seed in (0, 7)]


@pytest.fixture(scope="module")
def single_runs(seeds, resident):
    return [alone(one, resident) for one in seeds]


def test_mapped_members_have_the_bits_of_single_runs(seeds, single_runs, resident):
    _, states, sums = together(seeds, resident, vectorized=False)
    for (state, one), found, other in zip(single_runs, states, sums, strict=True):
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), found)
        assert {name: one[name] for name in ("loss", "correct", "examples", "skipped")} == {
            name: other[name] for name in ("loss", "correct", "examples", "skipped")
        }


def test_vectorized_members_agree_with_single_runs(seeds, single_runs, resident):
    """In the first chunk to rounding; later a ReLU near zero can open or close."""
    _, states, sums = together(seeds, resident, vectorized=True)
    for (state, one), found, other in zip(single_runs, states, sums, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-2)
    kernels = [state.params["stem"]["kernel"] for state in states]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1  # each has its own


@pytest.mark.parametrize("vectorized", [False, True])
def test_numbers_of_each_member(config, resident, vectorized):
    """A member with other numbers is the single run with them, but for rounding."""
    optim = {
        "learning_rate": 0.2,
        "final_learning_rate": 0.2,
        "muon_learning_rate": 0.01,
        "weight_decay": 5e-3,
        "muon_weight_decay": 0.1,
        "momentum": 0.8,
        "label_smoothing": 0.3,
        "ema_decay": 0.0,
    }
    augment = {"flip": 0.1, "coarse_dropout": 0.9, "mixup": 0.0, "cutmix": 0.9}
    config = config.replace(train={"epochs": 1})  # in which the rates of the members part
    other = config.replace(optim=optim, augment=augment)
    assert len(varied_fields([config, other])) == len(optim) + len(augment)
    _, states, sums = together([config, other], resident, vectorized, epochs=1)
    state, one = alone(other, resident, epochs=1)
    assert sums[1]["loss"] == pytest.approx(one["loss"], rel=1e-3)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(states[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-2)
    assert sums[0]["loss"] != pytest.approx(one["loss"], rel=5e-3)


def test_what_cannot_be_side_by_side(config):
    wider = config.replace(model={"stem": 16})
    assert not fit(config, wider)
    assert fit(config, config.replace(train={"seed": 3}, optim={"learning_rate": 0.3}))
    with pytest.raises(ValueError, match=r"members must not differ in model\.stem"):
        Members([config, wider])


def test_groups_fit_and_are_no_larger_than_asked(config):
    seeds = {f"seed{seed}": config.replace(train={"seed": seed}) for seed in range(3)}
    runs = {"wider": config.replace(model={"stem": 16}), **seeds}
    assert groups_of(runs, 2) == [["wider"], ["seed0", "seed1"], ["seed2"]]
    assert groups_of({}, 2) == []


@pytest.fixture(scope="module")
def wild(config):
    optim = {"optimizer": "sgd", "learning_rate": 1e6, "nonfinite_limit": 5}
    return config.replace(model={"stages": (8,)}, optim=optim)


def test_a_member_that_diverges_leaves_the_others_alone(wild, resident):
    calm = wild.replace(optim={"learning_rate": 0.1})
    members, states, sums = together([calm, wild], resident, vectorized=False, epochs=2)
    state, one = alone(calm, resident)
    assert list(members.failed) == [1]
    assert "the loss or the gradient of the last" in members.failed[1]
    assert sums[0]["loss"] == pytest.approx(one["loss"], rel=1e-5)
    np.testing.assert_allclose(
        states[0].params["head"]["kernel"], state.params["head"]["kernel"], rtol=1e-3, atol=1e-4
    )


def test_all_members_diverge(wild, resident):
    wilder = wild.replace(train={"seed": 1}, optim={"learning_rate": 5e5})
    members, *_ = together([wild, wilder], resident, vectorized=False)
    assert set(members.failed) == {0, 1}


def test_what_becomes_of_a_member_that_is_over_is_not_looked_at(config):
    members = Members([config, config.replace(train={"seed": 1})])
    members.over = {0}
    members._refuse(0, "the first")
    members._refuse(1, "the second")
    assert members.failed == {1: "the second"}
