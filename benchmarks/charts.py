"""Pictures of the benchmarks' figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

Range = tuple[float, float]


def bars(
    path: Path,
    values: Mapping[str, tuple[float, Range]],
    *,
    title: str,
    label: str,
    digits: int = 0,
) -> None:
    """Draw a bar for each value, the first one on top.

    Args:
      path: of the PNG.
      values: by name: a median, and the lowest and the highest.
      title: of the picture; a second line is its small print.
      label: of the axis, with the unit.
      digits: after the decimal point, of the numbers beside the bars.
    """
    figure = Figure(figsize=(8, 1.6 + 0.45 * len(values)), layout="constrained")
    axes = figure.subplots()
    middles = [middle for middle, _ in values.values()]
    below = [middle - low for middle, (low, _) in values.values()]
    above = [high - middle for middle, (_, high) in values.values()]
    axes.barh(list(values), middles, color="#4878a8")
    axes.errorbar(middles, range(len(values)), xerr=[below, above], fmt="none", ecolor="black")
    for i, (middle, (_, high)) in enumerate(values.values()):
        axes.annotate(
            f"{middle:,.{digits}f}", (high, i), (5, 0), textcoords="offset points", va="center"
        )
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(xlabel=label, xlim=(0, None))
    _finish(figure, title, path)


def lines(
    path: Path,
    panels: Sequence[tuple[str, Mapping[str, Sequence[tuple[float, float, Range]]]]],
    *,
    title: str,
    label: str,
) -> None:
    """Draw panels side by side: lines over a logarithmic axis, with ranges.

    Args:
      path: of the PNG.
      panels: the label of the horizontal axis, and lines by name: points (x, median, range).
      title: of the picture.
      label: of the vertical axis, with the unit.
    """
    figure = Figure(figsize=(5.5 * len(panels), 4.2), layout="constrained")
    for axes, (x_label, curves) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        ticks: set[Any] = set()
        for name, points in curves.items():
            xs, middles = [p[0] for p in points], [p[1] for p in points]
            below = [middle - low for _, middle, (low, _) in points]
            above = [high - middle for _, middle, (_, high) in points]
            axes.errorbar(xs, middles, yerr=[below, above], marker="o", capsize=3, label=name)
            ticks |= set(xs)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_minor_formatter(_two_or_five)
        axes.set(xlabel=x_label, ylabel=label)
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    _finish(figure, title, path)


def _two_or_five(value: float, _: int) -> str:
    """The label of a tick between powers of ten."""
    return f"{value:,.0f}" if f"{value:.0e}"[0] in "25" else ""


def _finish(figure: Figure, title: str, path: Path) -> None:
    figure.suptitle(title, fontsize=11)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150)
