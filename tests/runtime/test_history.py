import pytest

from cifar_jax.config import TrainConfig
from cifar_jax.runtime.history import describe, out_of_patience, selected, selected_step


def rows(*accuracies):
    return [
        {"epoch": epoch, "step": 10 * epoch, "ema_validation_accuracy": accuracy}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]


@pytest.mark.parametrize(
    ("accuracies", "min_delta", "epoch"),
    [
        ([0.5], 0.0, 1),
        ([0.5, 0.7, 0.6], 0.0, 2),
        ([0.5, 0.7, 0.7], 0.0, 2),  # a tie goes to the earlier epoch
        ([0.5, 0.51, 0.52, 0.53], 0.02, 4),  # gains count from the selected epoch
        ([0.5, 0.51, 0.52], 0.05, 1),
    ],
)
def test_selected(accuracies, min_delta, epoch):
    assert selected(rows(*accuracies), min_delta)["epoch"] == epoch


def test_the_step_that_is_restored_at_the_end():
    config = TrainConfig()
    assert selected_step(config, []) is None
    assert selected_step(config, [{"epoch": 1, "step": 10}]) is None
    assert selected_step(config, rows(0.5, 0.7, 0.6)) == 20
    assert selected_step(TrainConfig(min_delta=0.5), rows(0.5, 0.7, 0.6)) == 10


def test_without_validation_the_last_epoch_is_selected():
    assert selected([{"epoch": 1}, {"epoch": 2}, {"epoch": 3}])["epoch"] == 3


@pytest.mark.parametrize(
    ("patience", "accuracies", "over"),
    [
        (0, [0.9] + [0.1] * 50, False),
        (2, [], False),
        (2, [0.5, 0.4], False),
        (2, [0.5, 0.4, 0.3], True),
        (2, [0.5, 0.4, 0.6, 0.5], False),
    ],
)
def test_patience(patience, accuracies, over):
    assert out_of_patience(TrainConfig(patience=patience), rows(*accuracies)) is over


def test_patience_needs_a_validation_set():
    assert not out_of_patience(TrainConfig(patience=1), [{"epoch": e} for e in range(1, 9)])


def test_description():
    row = {
        "epoch": 3,
        "train_loss": 1.23456,
        "validation_accuracy": 0.5,
        "ema_validation_accuracy": 0.625,
        "learning_rate": 0.05,
        "images_per_second": 412.3,
        "seconds": 125.0,
        "skipped": 2,
    }
    assert describe(row, 10) == (
        "epoch 3/10  loss 1.2346  validation 50.00% (averaged 62.50%)  lr 0.0500  "
        "412 images/s  2:05  2 updates skipped"
    )
