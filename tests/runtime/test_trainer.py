"""The compiled loop of a run: its steps, and a row of metrics.jsonl."""

import jax
import numpy as np
import pytest

from cifar_jax.config_file import load_config
from cifar_jax.runtime.trainer import Trainer


def test_a_row_is_of_the_sums_of_its_epoch(tiny):
    trainer = Trainer(tiny)
    after = jax.tree.map(lambda x: np.full(x.shape, 20, x.dtype), trainer.abstract_state())
    sums = {"examples": 160.0, "loss": 400.0, "correct": 40.0, "skipped": 2.0, "seconds": 4.0}
    assert trainer.row(after, 2, sums) == {
        "epoch": 2,
        "step": 20,
        "train_loss": 2.5,
        "train_accuracy": 0.25,
        "skipped": 2,
        "learning_rate": pytest.approx(np.asarray(trainer.schedule(19)).item()),
        "images_per_second": 50.0,
    }


def test_compile_seconds_count_the_initial_state_and_the_chunk(tiny):
    trainer = Trainer(tiny)
    assert trainer.compile_seconds == 0
    trainer.initial_state()
    first = trainer.compile_seconds
    assert trainer.train_chunk is trainer.train_chunk
    assert trainer.compile_seconds > first > 0


@pytest.mark.parametrize(("chunk_steps", "used"), [(64, 39), (351, 351), (1000, 351), (2, 1)])
def test_chunks_divide_the_epoch(chunk_steps, used):
    config = load_config("configs/200k.py", ["--train.chunk-steps", str(chunk_steps)])
    assert config.steps_per_epoch == 351
    assert Trainer(config).chunk_steps == used
