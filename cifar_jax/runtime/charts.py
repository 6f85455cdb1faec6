"""Charts of pages: SVG that takes its colours and its font from the page around it."""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifar_jax.runtime.figures import (
    BLUE,
    GREEN,
    GREY,
    SERIES,
    STYLE,
    VERMILLION,
    History,
    curve,
    draw_curves,
    in_style,
    new_figure,
)
from cifar_jax.runtime.reliability import Bars, draw_reliability

ORANGE, SKY, PURPLE = "#E69F00", "#56B4E9", "#CC79A7"
COLORS = {  # of figures, and what they are on a page; page.css has the values
    BLUE: "var(--blue)",
    VERMILLION: "var(--vermillion)",
    GREEN: "var(--green)",
    PURPLE: "var(--purple)",
    ORANGE: "var(--orange)",
    SKY: "var(--sky)",
    GREY: "var(--grey)",
    STYLE["grid.color"]: "var(--line)",
    "#000000": "currentColor",
    "#ffffff": "var(--paper)",
}
CSS_LINES = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "dotted"}
LINES = tuple(  # told apart by colour, then by style: 18 of them
    (color, style) for style in ("-", "--", ":") for color in list(COLORS)[:6]
)
SMALL: dict[Any, Any] = {"font.size": 9, "axes.titlesize": 10, "lines.linewidth": 1.6}
ARTIST_IDS = re.compile(r' id="[\w.]+_\d+"')  # nothing refers to them, and they are in every SVG


def curves(history: History, quantity: str, selected_epoch: int | None) -> str:
    """One of ``figures.QUANTITIES`` over the epochs, as SVG."""
    said = [f"{quantity.replace('_', ' ')} over {len(history)} epochs"]
    with _chart() as (figure, axes):
        draw_curves(axes, history, quantity, selected_epoch)
        for line in axes.lines:
            label, values = str(line.get_label()), np.asarray(line.get_ydata(), float)
            if not label.startswith("selected"):
                name = "" if label.startswith("_") else f"{label} "  # it has none
                said.append(f"{name}from {values[0]:.3g} to {values[-1]:.3g}")
    return svg(figure, quantity, "; ".join(said))


def series_legend(history: History, selected_epoch: int | None) -> list[tuple[str, str, str]]:
    """The entries of ``page.legend`` for :func:`curves`."""
    entries = [
        (label, COLORS[color], CSS_LINES[style])
        for prefix, label, color, style in SERIES
        if any(row.get(f"{prefix}_loss") is not None for row in history)
    ]
    if selected_epoch is not None:
        entries.append((f"selected: epoch {selected_epoch}", "currentColor", "dotted"))
    return entries


def overlay(lines: Sequence[tuple[History, str, str]], key: str, alt: str) -> str:
    """One figure of the history of several runs over the epochs, as SVG.

    Args:
      lines: history, colour and line style of each run, the last two of :data:`LINES`.
      key: of the history.
      alt: what it shows, for those who do not see it.
    """
    with _chart() as (figure, axes):
        for history, color, style in lines:
            curve(axes, history, key, color=color, ls=style)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid()
    return svg(figure, key, alt)


def reliability(bars: Bars, alt: str) -> str:
    """The panels of ``reliability.reliability_figure``, as SVG.

    Args:
      bars: of ``Report.reliability``.
      alt: what it shows, for those who do not see it.
    """
    with new_figure(400, 420) as figure, rc_context(SMALL):
        figure.set_layout_engine("constrained")
        draw_reliability(figure, bars)
    return svg(figure, "reliability", alt)


def svg(figure: Figure, name: str, alt: str) -> str:
    """A figure as an SVG element to stand in a page.

    Args:
      figure: drawn with the colours of :data:`COLORS`; no text of users, which may be markup.
      name: unlike that of other figures of the page.
      alt: what it shows, for those who do not see it.

    Returns:
      The element; it is as wide as what it stands in.
    """
    content = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    own = rc_context({"svg.fonttype": "none", "svg.hashsalt": name})
    with in_style(), rc_context(SMALL), own:
        figure.savefig(content, format="svg", transparent=True, metadata=nothing)
    text = content.getvalue()
    box = re.search(r'viewBox="[^"]*"', text)
    assert box
    body = ARTIST_IDS.sub("", text[text.index(">", box.end()) + 1 :])
    for color, own in COLORS.items():
        body = body.replace(color.lower(), own)
    return f'<svg {box[0]} role="img" aria-label="{escape(alt)}">{body}'


@contextlib.contextmanager
def _chart() -> Iterator[tuple[Figure, Axes]]:
    with new_figure(400, 280) as figure, rc_context(SMALL):
        figure.set_layout_engine("constrained")
        yield figure, figure.subplots()
