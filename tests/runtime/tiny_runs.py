"""What tests of whole runs share: other configs, metrics, and ways to interrupt."""

import json
import shutil
import signal

import pytest

from cifar_jax.config import to_dict
from cifar_jax.runtime.progress import Progress
from cifar_jax.runtime.signals import Interrupted, listening
from cifar_jax.runtime.train import train

TIMES = {"seconds", "images_per_second"}


def read_metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def copy_run(run, config, folder, accuracy, validation=None, **sections):
    """Another run from the files of one: of another config and result, or with no result."""
    workdir, results = run
    folder.mkdir(parents=True)
    shutil.copy(workdir / "metrics.jsonl", folder)
    config = config.replace(**sections)
    (folder / "config.json").write_text(json.dumps(to_dict(config)))
    if accuracy is not None:
        results = results | {"ema_test_accuracy": accuracy, "seed": config.train.seed}
        results["ema_validation_accuracy"] = validation
        (folder / "results.json").write_text(json.dumps(results))
    return folder


def interrupt_at(call, original=lambda *_: None):
    """Stands for ``original`` and raises KeyboardInterrupt at the given call."""
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*args)

    return interrupted


def stop(config, folder, chunks, **options):
    """Train until a signal comes in the given chunk of steps."""
    stop_in_chunk(chunks, lambda asked: train(config, folder, stop=asked, **options))


def stop_in_chunk(chunks, run):
    """Call ``run`` with what tells of signals, until one comes in the given chunk of steps."""
    advance, calls = Progress.advance, []

    def interrupt(self, *args, **values):
        calls.append(args)
        if len(calls) == chunks:
            signal.raise_signal(signal.SIGTERM)
        advance(self, *args, **values)

    with pytest.MonkeyPatch.context() as patch, listening() as asked:
        patch.setattr(Progress, "advance", interrupt)
        with pytest.raises(Interrupted, match="stopped by SIGTERM"):
            run(asked)
    assert len(calls) == chunks
