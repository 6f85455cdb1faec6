"""The architecture as a picture, drawn from the network's own layers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from cifar_jax.config import IMAGE_SHAPE
from cifar_jax.models.analysis import count_params, layers, multiply_adds, receptive_field
from cifar_jax.models.layers import blocks_of
from cifar_jax.models.separable_resnet import SeparableResNet
from cifar_jax.runtime.figures import BLUE, VERMILLION, new_figure

WIDTH = 1600  # of the picture; this and all places and sizes below are in its pixels
TOP, PITCH, BOX = 180, 58, 42  # middle of the first row, from row to row, height of a box
LEFT, RIGHT = 75, 405  # of the boxes
OUTPUT = 495  # middle of this column
BARS, LONGEST = (605, 845), 120  # left of the columns of parameters and multiply-adds, longest bar
INSET_LEFT, INSET_RIGHT, INSET_TOP, INSET_BOTTOM = 1110, 1560, 110, 900
INK, QUIET, EDGE, PAPER = "#1f2937", "#6b7280", "#cbd5e1", "#f8fafc"
GREY, AMBER = "#e5e7eb", "#fde3a7"
DASHED = (0, (3, 2))  # of a shortcut that is not the identity
X = "\N{MULTIPLICATION SIGN}"


class Row(NamedTuple):
    """One part of the network."""

    name: str
    detail: str
    side: int  # of its output [pixels]; 0 once the pixels are averaged
    channels: int  # of its output
    parameters: int = 0
    multiply_adds: int = 0
    stage: int | None = None  # counted from 0; None outside of the stages
    projects: bool = False  # a block whose shortcut is a convolution, not the identity


def rows_of(model: SeparableResNet) -> list[Row]:
    """List the parts that an image meets, with their sizes and costs.

    Args:
      model: of any stem, stages and blocks.

    Returns:
      Input, stem, each block, mean, dropout (if there is any) and head. Their parameters and
      multiply-adds sum to the network's.
    """
    image = jax.ShapeDtypeStruct((1, *IMAGE_SHAPE), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    found = layers(model)

    def row(part: str, name: str, detail: str, stage: int | None = None) -> Row:
        own = [layer for layer in found if layer.name.split("/")[0] == part]
        return Row(
            name,
            detail,
            own[-1].side if part != "head" else 0,
            own[-1].outputs,
            count_params([params[part], params.get(f"{part}_norm")]),
            sum(layer.multiply_adds for layer in own),
            stage,
            own[-1].name.endswith("shortcut"),
        )

    blocks = []
    for number, (part, _, stride) in enumerate(
        blocks_of(model.stages, model.blocks, model.halvings)
    ):
        s, b = divmod(number, model.blocks)
        blocks.append(row(part, f"Stage {s + 1}, block {b + 1}", f"stride {stride}", s))
    features = blocks[-1].channels
    dropout = [Row("Dropout", f"p = {model.dropout:g}", 0, features)] if model.dropout else []
    return [
        Row("Input", "RGB image", *IMAGE_SHAPE[1:]),
        row("stem", "Stem", f"3{X}3 conv, BN, ReLU"),
        *blocks,
        Row("Global mean", "over all pixels", 0, features),
        *dropout,
        row("head", "Dense", "one logit a class"),
    ]


def architecture_figure(model: SeparableResNet) -> Figure:
    """Draw the network from top to bottom, with the inside of a block beside it.

    Args:
      model: of any stem, stages and blocks.

    Returns:
      A figure, 1600 pixels wide and as high as the network is deep.
    """
    rows = rows_of(model)
    bottom = max(TOP + (len(rows) - 1) * PITCH + BOX // 2, INSET_BOTTOM)
    height = bottom + 130
    with new_figure(WIDTH, height) as figure:
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
        axes.set_axis_off()
        _text(axes, 40, 42, "Depthwise-separable residual network", size=20, weight="bold")
        stages = ", ".join(map(str, model.stages))
        recipe = (
            f"stem of {model.stem} channels; stages of {stages}; blocks in a stage: {model.blocks}"
        )
        _text(axes, 40, 80, recipe, color=QUIET)
        _draw_rows(axes, rows, len(model.stages))
        _draw_block(axes)
        _draw_totals(axes, model, rows, bottom + 65)
    return figure


def _draw_rows(axes: Axes, rows: Sequence[Row], stages: int) -> None:
    shades = colormaps["Blues"]([0.2 + 0.6 * stage / max(stages - 1, 1) for stage in range(stages)])
    bars = (
        (BARS[0], "parameters", [row.parameters for row in rows], VERMILLION),
        (BARS[1], "multiply-adds", [row.multiply_adds for row in rows], BLUE),
    )
    _text(axes, OUTPUT, TOP - 45, f"output (H {X} W {X} C)", color=QUIET, ha="center")
    for left, name, _, _ in bars:
        _text(axes, left, TOP - 45, name, color=QUIET)
    middle, half = (LEFT + RIGHT) / 2, BOX / 2
    for index, row in enumerate(rows):
        y = TOP + index * PITCH
        fill = GREY if not row.parameters else AMBER if row.stage is None else shades[row.stage]
        ink = "white" if sum(to_rgb(fill)) < 1.6 else INK
        _box(axes, LEFT, RIGHT, y - half, y + half, fill)
        _text(axes, LEFT + 14, y, row.name, weight="bold", color=ink)
        _text(axes, RIGHT - 14, y, row.detail, color=ink, ha="right")
        if index:
            _arrow(axes, (middle, y - PITCH + half), (middle, y - half))
        if row.stage is not None:
            style = DASHED if row.projects else "-"
            start, end = (LEFT - 1, y - half + 3), (LEFT - 1, y + half - 3)
            _arrow(axes, start, end, connectionstyle="arc3,rad=0.75", linestyle=style)
        shape = f"{row.side} {X} {row.side} {X} {row.channels}" if row.side else f"{row.channels}"
        _text(axes, OUTPUT, y, shape, ha="center")
        for left, _, values, color in bars:
            if values[index]:
                length = max(LONGEST * values[index] / max(values), 2)
                axes.add_patch(Rectangle((left, y - 9), length, 18, color=color, lw=0))
                _text(axes, left + length + 8, y, f"{values[index]:,}")


def _draw_block(axes: Axes) -> None:
    left, right, top = INSET_LEFT, INSET_RIGHT, INSET_TOP
    _box(axes, left, right, top, INSET_BOTTOM, PAPER)
    _text(axes, left + 24, top + 32, "Inside a block", size=14, weight="bold")
    _text(axes, left + 24, top + 62, "C channels in, F channels out, stride s", color=QUIET)
    middle, bridge, pitch, half = left + 132, right - 100, 63, 20
    steps = (
        (f"depthwise 3{X}3, stride s", AMBER),
        (f"pointwise 1{X}1, C to F", AMBER),
        ("BN", GREY),
        ("ReLU", GREY),
        (f"depthwise 3{X}3", AMBER),
        (f"pointwise 1{X}1, F to F", AMBER),
        ("BN", GREY),
        ("+", PAPER),
        ("ReLU", GREY),
    )
    first, plus, last = (top + 108 + pitch * n for n in (0, 8, 10))
    _text(axes, middle, first, f"input H {X} W {X} C", ha="center")
    for index, (name, fill) in enumerate(steps, start=1):
        y = first + index * pitch
        _arrow(axes, (middle, y - pitch + (13 if index == 1 else half)), (middle, y - half))
        if name == "+":
            axes.add_patch(Circle((middle, y), half, fc="white", ec=INK, lw=1.5))
        else:
            _box(axes, middle - 104, middle + 104, y - half, y + half, fill)
        _text(axes, middle, y, name, ha="center", size=16 if name == "+" else 11)
    _arrow(axes, (middle, last - pitch + half), (middle, last - 13))
    _text(axes, middle, last, f"output H/s {X} W/s {X} F", ha="center")
    # The shortcut, past everything between input and sum.
    axes.plot([middle + 90, bridge, bridge], [first, first, plus], color=QUIET, lw=1.5)
    _arrow(axes, (bridge, plus), (middle + half, plus))
    center = (first + plus) / 2
    edges = bridge - 86, bridge + 86, center - 75, center + 75
    _box(axes, *edges, "white", linestyle=DASHED, edgecolor=QUIET, zorder=2.5)
    _text(axes, bridge, center - 50, "shortcut", ha="center", weight="bold")
    _text(axes, bridge, center - 18, f"1{X}1, stride s, BN", ha="center")
    _text(axes, bridge, center + 6, "where shape changes", ha="center", size=9, color=QUIET)
    _text(axes, bridge, center + 28, "(dashed at the left),", ha="center", size=9, color=QUIET)
    _text(axes, bridge, center + 50, "the identity elsewhere", ha="center", size=9, color=QUIET)


def _draw_totals(axes: Axes, model: SeparableResNet, rows: Sequence[Row], y: float) -> None:
    field, cost = receptive_field(model), multiply_adds(model)
    axes.plot([40, WIDTH - 40], [y - 35, y - 35], color=EDGE, lw=1)
    for x, number, unit in (
        (40, f"{sum(row.parameters for row in rows):,}", "parameters"),
        (540, f"{cost / 1e6:.1f} M", "multiply-adds an image"),
        (1110, f"{field} {X} {field}", "pixels of receptive field"),
    ):
        axes.annotate(
            unit,
            xy=(1, 0),
            xycoords=_text(axes, x, y, number, size=22, weight="bold"),
            xytext=(10, 4),
            textcoords="offset points",
            fontsize=12,
            color=QUIET,
        )


def _text(axes: Axes, x: float, y: float, text: str, *, size: float = 11, **style: Any) -> Any:
    style = {"va": "center_baseline", "color": INK} | style
    return axes.text(x, y, text, fontsize=size, **style)


def _box(
    axes: Axes, left: float, right: float, top: float, bottom: float, fill: Any, **style: Any
) -> None:
    shape = "round,pad=0,rounding_size=8"
    style = {"facecolor": fill, "edgecolor": EDGE, "linewidth": 1.0, "boxstyle": shape} | style
    axes.add_patch(FancyBboxPatch((left, top), right - left, bottom - top, **style))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], **style: Any) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 11, "linewidth": 1.4, "color": QUIET} | style
    axes.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **style))
