"""Where a run errs: the parts of its page about single classes and images."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cifar_jax.config import portable
from cifar_jax.data import CLASS_NAMES
from cifar_jax.runtime import charts, page
from cifar_jax.runtime.evaluate import Report, evaluate
from cifar_jax.runtime.inputs import Inputs
from cifar_jax.runtime.page import Section, percent
from cifar_jax.runtime.records import Record
from cifar_jax.runtime.run_weights import from_run

MISTAKES = 24


class Seen(NamedTuple):
    """What the averaged weights of the selected epoch make of images.

    Attributes:
      split: "test", or "validation" of a run that is not finished.
      images: uint8 [N, H, W, 3].
      report: of them.
    """

    split: str
    images: np.ndarray
    report: Report


def look(record: Record, inputs: Inputs, *, report: Callable[[str], None]) -> Seen:
    """Let the selected epoch's weights classify the test set, to see where they err.

    A run that is not finished looks at its validation split: its test set is for later.

    Args:
      record: of the run.
      inputs: of its config.
      report: told each damaged checkpoint that is passed over.

    Raises:
      CheckpointError: when the selected epoch's checkpoint is gone or cannot be read.
      OutOfMemory: when the device has too little memory.
    """
    config, results = portable(record.config), record.results
    step = results["selected_epoch"] * config.steps_per_epoch if results else None
    net = from_run(record.run.path, config, step=step, report=report)
    split, dataset = ("test", inputs.test) if results else ("validation", inputs.validation)
    return Seen(split, dataset[0], evaluate(config, net.variables, dataset))


def classes(confusion: np.ndarray, split: str) -> Section:
    """The confusion matrix, and each class."""
    rows = confusion.sum(axis=1)
    shares = confusion / np.maximum(rows, 1)[:, None]
    heads = "".join(f'<th scope="col">{name}</th>' for name in CLASS_NAMES)
    lines = []
    for name, counts, parts in zip(CLASS_NAMES, confusion, shares, strict=True):
        cells = "".join(
            f'<td{_full(part)} style="background:rgba(var(--shade),{part**0.5:.3f})">{count}</td>'
            for count, part in zip(counts, parts, strict=True)
        )
        lines.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    matrix = (
        '<div class="wide"><table class="confusion">\n'
        f"<thead><tr><td></td>{heads}</tr></thead>\n<tbody>\n"
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )
    return Section(
        "classes",
        "Classes",
        page.paragraph(
            f"Each row of the matrix has the {split} images of one class, each column those that "
            "the network takes for a class; the bluer a field, the larger its share of the row."
        )
        + f'<div class="beside"><div>{matrix}</div><div>{_bars(confusion, rows)}</div></div>',
    )


def _full(share: float) -> str:
    return ' class="full"' if share > 0.35 else ""


def _bars(confusion: np.ndarray, rows: np.ndarray) -> str:
    lines = []
    for index, name in enumerate(CLASS_NAMES):
        if not rows[index]:
            continue
        right, wrong = confusion[index, index] / rows[index], confusion[index].copy()
        wrong[index] = 0
        most = int(wrong.argmax())
        other = f"{CLASS_NAMES[most]} ({wrong[most]})" if wrong[most] else "none"
        lines.append(
            f'<tr><th scope="row">{name}</th><td><span class="bar">'
            f'<i style="width:{right:.2%}"></i></span></td><td>{percent(right, 1)}</td>'
            f"<td>{other}</td></tr>"
        )
    names = "".join(
        f'<th scope="col">{n}</th>' for n in ("Class", "Right", "", "Most confused with")
    )
    return (
        f'<div class="wide"><table class="bars"><thead><tr>{names}</tr></thead>\n<tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def images(record: Record, seen: Seen) -> list[Section]:
    """The parts that come from single images: confidence and mistakes."""
    results, confusion = record.results, seen.report.confusion()
    here, differ = seen.report.calibration_error(), 0
    error = here
    if results:
        if results["ema_test_calibration_error"] is not None:
            error = results["ema_test_calibration_error"]
        differ = int(np.abs(confusion - np.array(results["confusion"])).sum()) // 2
        confusion = np.array(results["confusion"])
    real = record.config.data.source != "synthetic"
    wrong = int(confusion.sum() - np.trace(confusion))
    parts = [confidence(seen, error), mistakes(seen, wrong, real=real)]
    if differ or percent(error) != percent(here):
        note = f"Computed here, the calibration error is {percent(here)}"
        if differ:
            note += f", and at least {differ} of these images are classified otherwise"
        note = page.paragraph(f"{note}; the figures are those of results.json.", "soft")
        parts = [part._replace(body=part.body + note) for part in parts]
    return parts


def confidence(seen: Seen, error: float) -> Section:
    """The reliability diagram."""
    bars = seen.report.reliability()
    mean = float(seen.report.probabilities.max(axis=-1).mean())
    chart = charts.reliability(bars, f"Reliability diagram: calibration error {percent(error)}")
    return Section(
        "confidence",
        "Confidence",
        '<div class="beside"><figure class="narrow">'
        + chart
        + "</figure><div>"
        + page.paragraph(
            f"The expected calibration error is {percent(error)}: the distance between confidence "
            f"and accuracy, averaged over {len(bars['images'])} bins weighted by their images. "
            f"Mean confidence is {percent(mean)}."
        )
        + page.paragraph(
            "Each bar is the share of right answers among images of about the same confidence, "
            "which is the probability of the predicted class; hatched is its distance to the "
            "mean confidence. Where a bar ends above the dashed line, the network is right more "
            "often than it claims; below it, less often. The lower panel has the images at each "
            "confidence; bars of few images say little."
        )
        + "</div></div>",
    )


def confident_mistakes(report: Report, most: int = MISTAKES) -> list[int]:
    """The indices of wrongly classified images, the most confident first."""
    wrong = np.flatnonzero(report.probabilities.argmax(axis=-1) != report.labels)
    order = np.argsort(-report.probabilities.max(axis=-1)[wrong], kind="stable")
    return wrong[order][:most].tolist()


def mistakes(seen: Seen, wrong: int, *, real: bool) -> Section:
    """The wrong answers that the network is surest of."""
    shown = confident_mistakes(seen.report)
    images = []
    for index in shown:
        probabilities = seen.report.probabilities[index]
        true, predicted = int(seen.report.labels[index]), int(probabilities.argmax())
        name, other = CLASS_NAMES[true], CLASS_NAMES[predicted]
        sure = percent(float(probabilities[predicted]), 1)
        doubted = percent(float(probabilities[true]), 1)
        caption = (
            f"<b>{name}</b> {doubted}<br>\N{RIGHTWARDS ARROW} <b>{other}</b> {sure}<br>"
            f"image {index}"
        )
        alt = f"{seen.split} image {index}: {name}, taken for {other} with {sure}"
        images.append(page.image(seen.images[index], alt, caption))
    text = (
        f"{wrong:,} of {len(seen.images):,} {seen.split} images are classified wrongly. These are "
        f"the {len(shown)} that the network is surest of: the true class and its probability, the "
        "predicted class and its own, and the image's number, counted from 0."
    )
    if real:
        text += " A few labels of CIFAR-10 are wrong themselves (arXiv:2103.14749)."
    body = page.paragraph(text) + page.sheet(images) if shown else page.paragraph("There are none.")
    return Section("mistakes", "Most confident mistakes", body)
