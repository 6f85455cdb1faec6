"""Pictures of a run: its curves, its confusion matrix and its augmented images.

Each picture is a function of arrays that returns a Figure; :func:`save` writes it as a PNG.
Colours are Okabe and Ito's, told apart by colour-blind readers: https://jfly.uni-koeln.de/color/.
"""

import contextlib
import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifar_jax.files import write_bytes

History = Sequence[Mapping[str, float | None]]

BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b7280"
SERIES = (  # of the loss and of the accuracy: key's prefix, label, colour, line style
    ("train", "training (as augmented)", BLUE, "-"),
    ("validation", "validation", VERMILLION, "--"),
    ("ema_validation", "validation, averaged weights", GREEN, "-"),
)
QUANTITIES = {"loss": "Loss", "accuracy": "Accuracy [%]", "learning_rate": "Learning rate"}
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
DPI = 100  # pixels per inch of every picture
SCALE = 6  # pixels of the sheet for one pixel of an augmented image
LINE = 16  # height of a caption's line on the sheet [pixels]
CHARACTERS = 26  # in a line of a caption, before it is wrapped
GAP = 12  # between images on the sheet [pixels]


def in_style() -> AbstractContextManager[None]:
    """Draw in this module's style, whatever the user's matplotlibrc says."""
    return matplotlib.style.context(["default", STYLE])


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG, atomically: ``path`` is the old file or the whole new one.

    Args:
      figure: the picture.
      path: of the PNG; its folder exists.

    Raises:
      WriteError: if the disk is full or the folder cannot be written to.
    """
    content = io.BytesIO()
    with in_style():
        figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    write_bytes(Path(path), content.getvalue())


@contextlib.contextmanager
def new_figure(width: float, height: float, title: str = "") -> Iterator[Figure]:
    """Yield an empty figure of ``width`` x ``height`` pixels in this module's style."""
    with in_style():
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        if title:
            figure.suptitle(title, fontsize=15, fontweight="bold")
        yield figure


def curves_figure(history: History, *, selected_epoch: int | None = None) -> Figure:
    """Draw loss, accuracy and learning rate over the epochs.

    Args:
      history: one row an epoch, with ``epoch``, ``learning_rate`` and, for each prefix of
        ``SERIES``, ``<prefix>_loss`` and ``<prefix>_accuracy`` [fraction]. What is missing, None
        or not finite is left out; other keys are not read.
      selected_epoch: marked in each panel.

    Returns:
      A figure of three panels.
    """
    with new_figure(1600, 520) as figure:
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
        panels = figure.subplots(1, 3, width_ratios=(1, 1, 0.7))
        for axes, (quantity, name) in zip(panels, QUANTITIES.items(), strict=True):
            draw_curves(axes, history, quantity, selected_epoch)
            axes.set_title(name, loc="left")
        handles, labels = panels[1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def draw_curves(
    axes: Axes, history: History, quantity: str, selected_epoch: int | None = None
) -> None:
    """Draw one of :data:`QUANTITIES` over the epochs, as :func:`curves_figure` describes."""
    if quantity == "learning_rate":
        curve(axes, history, quantity, color=GREY)
        axes.set_ylim(bottom=0)
    else:
        for prefix, label, color, style in SERIES:
            curve(axes, history, f"{prefix}_{quantity}", label=label, color=color, ls=style)
    if selected_epoch is not None:
        label = f"selected: epoch {selected_epoch}"
        axes.axvline(selected_epoch, color="black", ls=":", lw=1.2, label=label)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid()


def curve(axes: Axes, history: History, key: str, **options: Any) -> None:
    """Draw a figure of the history over the epochs, accuracies in per cent."""
    epochs = np.array([row["epoch"] for row in history], float)
    values = np.array([row.get(key) for row in history], float)  # None becomes NaN
    values *= 100 if key.endswith("accuracy") else 1
    known = np.isfinite(values)
    if known.any():
        marker = "o" if known.sum() <= 40 else None
        axes.plot(
            epochs[known], values[known], marker=marker, markersize=4, clip_on=False, **options
        )


def confusion_figure(
    confusion: np.ndarray, class_names: Sequence[str], *, title: str = ""
) -> Figure:
    """Draw a confusion matrix as a heat map with its counts.

    Args:
      confusion: counts [K, K]; rows are the true classes, columns the predicted ones.
      class_names: K names.
      title: above the matrix.

    Returns:
      A figure; a cell's colour is its share of its row, the recall is written beside each row.
    """
    counts = np.asarray(confusion)
    rows = counts.sum(axis=1)
    shares = counts / np.maximum(rows, 1)[:, None]
    ticks = np.arange(len(class_names))
    with new_figure(1040, 1000, title) as figure:
        figure.set_layout_engine("constrained", w_pad=0.2, h_pad=0.2)
        axes = figure.subplots()
        # The square root lifts errors of a few per cent above the white of none.
        axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.35 else "black" if count else GREY
            axes.text(column, row, f"{count}", ha="center", va="center", color=color)
        axes.set_xticks(ticks, class_names, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, class_names)
        axes.set_xlabel("predicted class", fontweight="bold")
        axes.set_ylabel("true class", fontweight="bold")
        recall = axes.secondary_yaxis("right")
        recall.set_yticks(
            ticks,
            [f"{c / n:.1%}" if n else "n/a" for c, n in zip(np.diag(counts), rows, strict=True)],
        )
        recall.set_ylabel("recall", fontweight="bold")
        recall.tick_params(length=0)
        axes.spines[:].set_visible(False)
        recall.spines[:].set_visible(False)
    return figure


def augmentations_figure(
    images: np.ndarray, captions: Sequence[str], *, columns: int = 8
) -> Figure:
    """Draw a sheet of images, every pixel a square, each with its caption below.

    Args:
      images: [N, H, W, 3], float in [0, 1]; what lies outside is clipped.
      captions: N short texts; long lines are wrapped.
      columns: images in a row.

    Returns:
      A figure of ``columns`` x ceil(N / columns) images.
    """
    images = np.clip(np.asarray(images, np.float32), 0, 1)
    height, width = SCALE * images.shape[1], SCALE * images.shape[2]
    wrapped = ["\n".join(map(_wrap, text.splitlines())) for text in captions]
    lines = max(text.count("\n") + 1 for text in wrapped)
    cell = height + LINE * lines + GAP
    rows = -(-len(images) // columns)
    total = columns * (width + GAP) + GAP, GAP + rows * cell + GAP
    with new_figure(*total) as figure:
        sheet = figure.add_axes((0, 0, 1, 1), xlim=(0, total[0]), ylim=(total[1], 0))  # in pixels
        sheet.set_axis_off()
        for index, (image, text) in enumerate(zip(images, wrapped, strict=True)):
            x, y = GAP + index % columns * (width + GAP), GAP + index // columns * cell
            extent = (x, x + width, y + height, y)
            sheet.imshow(image, extent=extent, interpolation="nearest", aspect="auto")
            sheet.text(x + width / 2, y + height + 4, text, fontsize=9, ha="center", va="top")
        sheet.set(xlim=(0, total[0]), ylim=(total[1], 0))
    return figure


def _wrap(line: str) -> str:
    glued = line.replace("% ", "%\u00a0").replace("+ ", "+\u00a0")  # "63% cat" stays on one line
    return "\n".join(textwrap.wrap(glued, CHARACTERS))
