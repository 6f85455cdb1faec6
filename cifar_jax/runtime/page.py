"""Pages: one HTML file each with all that it shows inside; it fetches nothing and runs nothing.

Every function returns HTML and escapes the text it is given; a parameter that takes HTML says so.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cifar_jax.files import write_bytes

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # the browser holds us to it
)


class Section(NamedTuple):
    """A part of a page.

    Attributes:
      anchor: its name in addresses.
      title: above it.
      body: HTML.
    """

    anchor: str
    title: str
    body: str


def document(title: str, state: str, lead: str, top: str, sections: Sequence[Section]) -> str:
    """A whole page.

    Args:
      title: of the page and of its window.
      state: a line above the title: what it is of, and whether that is finished.
      lead: the sentence to remember.
      top: HTML below it.
      sections: the rest, in order; the page lists them.

    Returns:
      HTML.
    """
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    links = "\n".join(f'<a href="#{part.anchor}">{escape(part.title)}</a>' for part in sections)
    parts = "\n".join(
        f'<section id="{part.anchor}" aria-labelledby="{part.anchor}-title">\n'
        f'<h2 id="{part.anchor}-title">{escape(part.title)}</h2>\n{part.body}\n</section>'
        for part in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header>
<p class="state">{escape(state)}</p>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
{top}
</header>
<nav aria-label="Sections">
{links}
</nav>
<main>
{parts}
</main>
<footer>Made by cifar_jax. The page is one file: nothing is fetched, no script runs.</footer>
</body>
</html>
"""


def write(path: Path, text: str) -> None:
    """Write a page; of names in another encoding the bytes are shown. Raises WriteError."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; ``kind`` is a class of page.css."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def percent(fraction: float, digits: int = 2) -> str:
    """A fraction as text, which no line break parts.

    >>> percent(0.87625, 1).replace("\N{NO-BREAK SPACE}", " ")
    '87.6 %'
    """
    return f"{100 * fraction:.{digits}f}\N{NO-BREAK SPACE}%"


def plain(value: Any) -> str:
    """A value of a config as text."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def facts(values: Mapping[str, str]) -> str:
    """Named figures, side by side."""
    items = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in values.items()
    )
    return f'<dl class="facts">\n{items}\n</dl>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table in a box of its own, which scrolls where it is too wide.

    Args:
      head: names of the columns; may be empty.
      rows: their cells; the first names the row.
      kind: "numbers" aligns all but the first column to the right, "hashes" breaks long words.

    Returns:
      HTML.
    """
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    top = f"<thead><tr>{names}</tr></thead>\n" if head else ""
    lines = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for first, *cells in rows
    )
    return (
        f'<div class="wide"><table class="{kind}">\n{top}<tbody>\n{lines}\n</tbody></table></div>'
    )


def details(summary: str, body: str) -> str:
    """HTML that is folded behind a line."""
    return f"<details><summary>{escape(summary)}</summary>\n{body}\n</details>"


def code(text: str) -> str:
    """Commands to copy."""
    return f"<pre><code>{escape(text)}</code></pre>"


def legend(entries: Sequence[tuple[str, str, str]]) -> str:
    """What the lines of charts are.

    Args:
      entries: label, CSS colour and CSS line style ("solid", "dashed", "dotted") of each.

    Returns:
      HTML.
    """
    items = "\n".join(
        f'<li><i style="border-top-color:{color};border-top-style:{style}"></i>{escape(label)}</li>'
        for label, color, style in entries
    )
    return f'<ul class="legend">\n{items}\n</ul>'


def charts(named: Mapping[str, str]) -> str:
    """Charts beside each other, each below its title; SVG of charts.py."""
    figures = "\n".join(
        f"<figure><h3>{escape(title)}</h3>\n{svg}\n</figure>" for title, svg in named.items()
    )
    return f'<div class="charts">\n{figures}\n</div>'


def image(pixels: np.ndarray, alt: str, caption: str) -> str:
    """A small picture, every pixel a square.

    Args:
      pixels: uint8 [H, W, 3].
      alt: what it shows, for those who do not see it.
      caption: HTML below it.

    Returns:
      HTML with a PNG inside.
    """
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png", optimize=True)
    data = base64.b64encode(content.getvalue()).decode()
    height, width = pixels.shape[:2]
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'alt="{escape(alt)}"><figcaption>{caption}</figcaption></figure>'
    )


def sheet(images: Sequence[str]) -> str:
    """Pictures of :func:`image` in rows, as many in each as there is room for."""
    return '<div class="sheet">\n' + "\n".join(images) + "\n</div>"
