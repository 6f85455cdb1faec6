"""Evaluation of a set of images, exactly once each at any batch size."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cifar_jax import models, tta
from cifar_jax.config import AugmentConfig, Config, ModelConfig
from cifar_jax.metrics import calibration_error, confusion_matrix, reliability, top_k_correct
from cifar_jax.runtime.environment import memory_in_words
from cifar_jax.runtime.kernels import network
from cifar_jax.steps import EvalStep, make_eval_step

Watch = Callable[[range], Iterable[int]]


class Report(NamedTuple):
    """The outcome of an evaluation, on the host.

    Attributes:
      accuracy: fraction of images whose most probable class is right.
      loss: mean cross-entropy [nats].
      labels: true classes [N].
      probabilities: float32 [N, K].
    """

    accuracy: float
    loss: float
    labels: np.ndarray
    probabilities: np.ndarray

    def confusion(self) -> np.ndarray:
        """Counts [K, K]; rows are true classes, columns predicted ones."""
        predicted = jax.device_put(self.probabilities.argmax(axis=-1))
        classes = self.probabilities.shape[-1]
        return np.asarray(
            confusion_matrix(predicted, jax.device_put(self.labels), num_classes=classes)
        )

    def calibration_error(self) -> float:
        """The expected calibration error, of 15 bins."""
        return float(calibration_error(*jax.device_put((self.probabilities, self.labels))))

    def top_k_accuracy(self, k: int) -> float:
        """Fraction of images whose true class is among the k most probable."""
        right = top_k_correct(*jax.device_put((self.probabilities, self.labels)), k=k)
        return float(np.asarray(right).mean(dtype=np.float64))

    def reliability(self) -> dict[str, np.ndarray]:
        """The bars of a reliability diagram, of 15 equal intervals of confidence.

        Returns:
          Images, their mean confidence and their accuracy, each [15]; the latter two are NaN where
          there are no images.
        """
        sums = reliability(*jax.device_put((self.probabilities, self.labels)))
        images, correct, gap = (np.asarray(x, np.float64) for x in sums)
        with np.errstate(invalid="ignore"):
            accuracy, gap = correct / images, gap / images
        return {
            "images": images.astype(int),
            "confidence": accuracy + gap,
            "accuracy": accuracy,
        }

    def per_class_accuracy(self) -> np.ndarray:
        """Accuracy of each true class [K]; NaN where a class has no image."""
        confusion = self.confusion()
        with np.errstate(invalid="ignore"):
            return confusion.diagonal() / confusion.sum(axis=1)


def evaluate(
    config: Config,
    variables: Any,
    dataset: tuple[np.ndarray, np.ndarray],
    *,
    mode: tta.Mode = "none",
    watch: Watch = iter,
) -> Report:
    """Evaluate a network with one mode of test-time augmentation.

    Args, batches and errors are those of :func:`evaluate_modes`, but for ``mode``.

    Returns:
      The report of that mode.
    """
    return evaluate_modes(config, variables, dataset, (mode,), watch=watch)[mode]


def evaluate_modes(
    config: Config,
    variables: Any,
    dataset: tuple[np.ndarray, np.ndarray],
    modes: Sequence[tta.Mode],
    *,
    watch: Watch = iter,
) -> dict[tta.Mode, Report]:
    """Evaluate a network with several modes of test-time augmentation at once.

    Args:
      config: the sections "model", "augment" and "eval" are read.
      variables: of the network.
      dataset: images uint8 [N, H, W, C] and labels [N], N at least 1.
      modes: at least one; a view that several have is computed once.
      watch: passes the batches on, and may show how far they are, as tqdm does.

    Returns:
      The report of each mode, but for rounding that of the mode alone. Each image counts once: the
      last batch is padded and masked. Batches are of ``eval.batch_size``, or of the next power of
      two where there are fewer images.

    Raises:
      ValueError: without images, without a mode, or for one that is unknown.
      OutOfMemory: when the device has too little for ``eval.batch_size`` images.
    """
    read = {name: getattr(config.augment, name) for name in ("mean", "std", "border")}
    lanes = network(config).lanes
    eval_step = _compiled_step(config.model, lanes, AugmentConfig(**read), tuple(modes))
    reports = evaluate_with(
        eval_step,
        variables,
        dataset,
        batch_size=config.eval.batch_size,
        field="eval.batch_size",
        watch=watch,
    )
    return {mode: reports[mode] for mode in modes}


def evaluate_with(
    eval_step: EvalStep,
    variables: Any,
    dataset: tuple[np.ndarray, np.ndarray],
    *,
    batch_size: int = 64,
    field: str = "batch_size",
    watch: Watch = iter,
) -> dict[tta.Mode, Report]:
    """Evaluate any network: of K classes, and images of any size.

    Args:
      eval_step: of :func:`cifar_jax.steps.make_eval_step`, jitted.
      variables: of the network.
      dataset: images uint8 [N, H, W, C] and labels [N], N at least 1.
      batch_size: images of a batch; the next power of two where there are fewer.
      field: the name of the batch size in the message of OutOfMemory.
      watch: see :func:`evaluate_modes`.

    Returns:
      The report of each mode of the step. Each image counts once.

    Raises:
      ValueError: without images.
      OutOfMemory: when the device has too little for so many images.
    """
    images, labels = dataset
    if not len(images):
        raise ValueError("dataset must have at least 1 image, not 0")
    variables = jax.device_put(variables)
    size = min(batch_size, 2 ** (len(images) - 1).bit_length())
    parts = []
    with memory_in_words(field, size, option=False):
        for start in watch(range(0, len(images), size)):
            rows = np.arange(start, start + size)
            mask = rows < len(images)
            rows = np.minimum(rows, len(images) - 1)
            parts.append(eval_step(variables, jax.device_put((images[rows], labels[rows], mask))))
        parts = jax.device_get(parts)
    found = jax.tree.map(lambda *x: np.concatenate(x)[: len(images)], *parts)

    def report_of(mode: tta.Mode) -> Report:
        values = found[mode]
        return Report(
            accuracy=float(values["correct"].mean(dtype=np.float64)),
            loss=float(values["loss"].mean(dtype=np.float64)),
            labels=labels,
            probabilities=values["probabilities"],
        )

    return {mode: report_of(mode) for mode in tta.VIEWS if mode in found}


@functools.cache
def _compiled_step(
    model: ModelConfig, lanes: int, augment: AugmentConfig, modes: tuple[tta.Mode, ...]
) -> Any:
    apply = models.from_config(model, lanes=lanes).apply
    return jax.jit(make_eval_step(apply, augment, modes=modes))
