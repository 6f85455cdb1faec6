"""CIFAR-10 as four numpy arrays, always the same bytes. Part of the shell; imports no jax."""

from cifar_jax.data.dataset import CLASS_NAMES, SHA256, DataError, Dataset
from cifar_jax.data.load import REMOTE, SOURCES, load_cifar10
from cifar_jax.data.split import select_train_examples, train_validation_split
from cifar_jax.data.synthetic import make_synthetic

__all__ = [
    "CLASS_NAMES",
    "REMOTE",
    "SHA256",
    "SOURCES",
    "DataError",
    "Dataset",
    "load_cifar10",
    "make_synthetic",
    "select_train_examples",
    "train_validation_split",
]
