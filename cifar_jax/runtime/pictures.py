"""The pictures of a run and of an evaluation: which arrays go into which file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cifar_jax import augment, steps
from cifar_jax.config import Config
from cifar_jax.data import CLASS_NAMES
from cifar_jax.rng import stream_key
from cifar_jax.runtime.figures import augmentations_figure, confusion_figure, curves_figure, save
from cifar_jax.runtime.inputs import ImageSet, Inputs
from cifar_jax.runtime.reliability import reliability_figure
from cifar_jax.runtime.workdir import Workdir

COLUMNS = 8  # of the sheet of augmented images; a row for each mix
SEARCHED = 1000  # steps in which a batch of each mix is looked for


def draw_pictures(
    config: Config,
    run: Workdir,
    history: Sequence[Mapping[str, Any]],
    inputs: Inputs,
    results: Mapping[str, Any],
) -> None:
    """Write curves.png, confusion.png and augmentations.png into the workdir."""
    curves = curves_figure(history, selected_epoch=results["selected_epoch"])
    save(curves, run.path / "curves.png")
    title = f"Test images, averaged weights: {results['ema_test_accuracy']:.2%}"
    confusion = confusion_figure(np.asarray(results["confusion"]), CLASS_NAMES, title=title)
    save(confusion, run.path / "confusion.png")
    images, captions = augmentation_sheet(config, inputs.train)
    sheet = augmentations_figure(images, captions, columns=COLUMNS)
    save(sheet, run.path / "augmentations.png")


def draw_evaluation(found: Mapping[str, Any], folder: Path, split: str) -> None:
    """Write confusion.png and reliability.png.

    Args:
      found: the figures of ``score.score`` or ``score.score_variables``.
      folder: of the pictures; it exists.
      split: "test" or "validation".

    Raises:
      WriteError: when the folder cannot be written to.
    """
    accuracy = found["accuracy"] if "accuracy" in found else found[f"ema_{split}_accuracy"]
    title = f"{split.capitalize()} images, averaged weights: {accuracy:.2%}"
    confusion = confusion_figure(np.asarray(found["confusion"]), CLASS_NAMES, title=title)
    save(confusion, folder / "confusion.png")
    save(reliability_figure(found["reliability"], title=title), folder / "reliability.png")


def augmentation_sheet(config: Config, train: ImageSet) -> tuple[np.ndarray, list[str]]:
    """Images as the network sees them, a row for each mix that the config uses.

    A mix that none of the first :data:`SEARCHED` steps draws has no row.

    Returns:
      Images float32 [N, H, W, C] in [0, 1], the normalisation undone, and a caption for each.
    """
    key = jax.random.key(config.train.seed)
    batch = jax.device_put((train[0][:COLUMNS], train[1][:COLUMNS]))
    if config.augment.alternating_flip:  # which the chunk does, before the step
        indices = jax.device_put(np.arange(len(batch[0]), dtype=np.int32))
        flipped = augment.alternating_flip(stream_key(key, "flip"), batch[0], indices, 0)
        batch = (flipped, batch[1])

    @jax.jit  # one program for all seeds
    def see(key: jax.Array, step: jax.Array, batch: steps.Batch) -> Any:
        return steps.augmented_batch(key, step, batch, config.augment, num_classes=len(CLASS_NAMES))

    rows: dict[str, tuple[np.ndarray, list[str]]] = {}
    mean, std = np.array(config.augment.mean, np.float32), np.array(config.augment.std, np.float32)
    shares = (config.augment.ricap, config.augment.mixup, config.augment.cutmix)
    wanted = sum(share > 0 for share in shares) + (sum(shares) < 1 - 1e-9)
    for step in range(SEARCHED):
        images, targets, kind = jax.device_get(see(key, jax.device_put(step), batch))
        name = augment.MIX_NAMES[int(kind)]
        captions = [f"{name}\n{caption(target, CLASS_NAMES)}" for target in targets]
        rows.setdefault(name, (np.clip(images * std + mean, 0, 1), captions))
        if len(rows) == wanted:
            break
    ordered = [rows[name] for name in augment.MIX_NAMES if name in rows]
    captions = [text for row in ordered for text in row[1]]
    return np.concatenate([row[0] for row in ordered]), captions


def caption(target: np.ndarray, class_names: Sequence[str]) -> str:
    """Name what an image shows, as "cat" or "63% cat + 37% ship".

    The (at most) four heaviest classes in falling order; their rounded percents sum to 100
    (largest remainders), and a class that rounds to 0% is not named.

    Args:
      target: weights of the classes [K], at least 0 and not all 0.
      class_names: K names.

    Returns:
      One line.

    Raises:
      ValueError: if no weight is positive.
    """
    weights = np.asarray(target, float)
    order = np.argsort(-weights, kind="stable")[:4]
    if not weights[order[0]] > 0:
        raise ValueError(f"caption: target must have a positive weight, not {target}")
    shares = 100 * weights[order] / weights[order].sum()
    percents = np.floor(shares).astype(int)
    remainders = np.argsort(percents - shares, kind="stable")
    percents[remainders[: 100 - percents.sum()]] += 1
    named = [(p, class_names[int(k)]) for p, k in zip(percents, order, strict=True) if p]
    return named[0][1] if len(named) == 1 else " + ".join(f"{p}% {name}" for p, name in named)
