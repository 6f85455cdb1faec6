"""The picture of a sweep: the accuracies of its runs, their mean and its interval."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from cifar_jax.runtime.figures import BLUE, VERMILLION, new_figure


def spread_figure(
    values: Mapping[str, Sequence[float]],
    summaries: Sequence[Mapping[str, Any]],
    *,
    title: str = "",
) -> Figure:
    """Draw the accuracies of several runs: a row of dots for each name, mean and interval.

    Args:
      values: accuracies [fraction] by name.
      summaries: of each: ``mean``, and ``low`` and ``high``, which may be None.
      title: above the panel.

    Returns:
      A figure of one panel.
    """
    with new_figure(900, 160 + 60 * len(values), title) as figure:
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
        axes = figure.subplots()
        for row, (accuracies, summary) in enumerate(zip(values.values(), summaries, strict=True)):
            dots = [100 * accuracy for accuracy in accuracies]
            axes.plot(dots, [row] * len(dots), "o", color=BLUE, alpha=0.6, label="runs")
            if summary["low"] is not None:
                ends = [100 * summary["low"], 100 * summary["high"]]
                axes.plot(
                    ends,
                    [row + 0.22] * 2,
                    color=VERMILLION,
                    label="95 % confidence interval of the mean",
                )
            mean = 100 * summary["mean"]
            axes.plot([mean], [row + 0.22], "d", color=VERMILLION, label="mean")
        axes.set_yticks(range(len(values)), list(values))
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.set_xlabel("Accuracy [%]")
        axes.grid(axis="x")
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=3)
    return figure
