"""The reliability diagram of a network, in the style of figures.py."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from cifar_jax.runtime.figures import BLUE, GREY, VERMILLION, new_figure

Bars = Mapping[str, Sequence[float | None] | np.ndarray]


def reliability_figure(bars: Bars, *, title: str = "") -> Figure:
    """Draw how often predictions of a given confidence are right.

    Args:
      bars: "images", "confidence" and "accuracy" of equal intervals of [0, 1], as in the figures
        of ``score.score_variables``; None where there are no images.
      title: above the panels.

    Returns:
      A figure of two panels: a bar of each interval's accuracy with its distance to the mean
      confidence, whose mean over the images is the expected calibration error; and the images.

    References:
      Guo et al., On calibration of modern neural networks, https://arxiv.org/abs/1706.04599
    """
    with new_figure(900, 1000, title) as figure:
        figure.set_layout_engine("constrained", w_pad=0.2, h_pad=0.1)
        draw_reliability(figure, bars)
        figure.axes[0].legend(loc="upper left")
    return figure


def draw_reliability(figure: Figure, bars: Bars) -> None:
    """Draw both panels into an empty figure, without a legend.

    Args:
      figure: to draw into.
      bars: see :func:`reliability_figure`.
    """
    images, confidence, accuracy = (
        np.array(bars[name], float) for name in ("images", "confidence", "accuracy")
    )
    edges = np.linspace(0, 1, len(images) + 1)
    error = np.nansum(images * np.abs(confidence - accuracy)) / images.sum()
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    bar = {"width": 1 / len(images), "align": "edge"}
    upper.bar(edges[:-1], accuracy, color=BLUE, edgecolor="white", label="accuracy", **bar)
    upper.bar(
        edges[:-1],
        confidence - accuracy,
        bottom=accuracy,
        facecolor="none",
        edgecolor=VERMILLION,
        hatch="//",
        label=f"distance to the mean confidence: {error:.2%} on average",
        **bar,
    )
    upper.plot([0, 1], [0, 1], color=GREY, ls="--", label="calibrated")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of right predictions")
    lower.bar(edges[:-1], images, color=GREY, edgecolor="white", **bar)
    lower.set(xlabel="confidence: probability of the predicted class", ylabel="images")
    for axes in (upper, lower):
        axes.grid()
