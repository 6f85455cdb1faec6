"""What each command does; a file each. They import jax only to run."""

from cifar_jax.commands.command import Command
from cifar_jax.commands.compare import COMPARE
from cifar_jax.commands.data import DATA
from cifar_jax.commands.eval import EVAL
from cifar_jax.commands.export import EXPORT
from cifar_jax.commands.import_torch import IMPORT_TORCH
from cifar_jax.commands.predict import PREDICT
from cifar_jax.commands.report import REPORT
from cifar_jax.commands.summary import SUMMARY
from cifar_jax.commands.sweep import SWEEP
from cifar_jax.commands.train import TRAIN

COMMANDS: dict[str, Command] = {
    "train": TRAIN,
    "sweep": SWEEP,
    "eval": EVAL,
    "predict": PREDICT,
    "report": REPORT,
    "compare": COMPARE,
    "export": EXPORT,
    "import-torch": IMPORT_TORCH,
    "summary": SUMMARY,
    "data": DATA,
}
