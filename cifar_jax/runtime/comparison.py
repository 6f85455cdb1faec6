"""Runs side by side: their final figures, what of their configs differs, and their curves."""

import datetime
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cifar_jax.config import Config, to_dict
from cifar_jax.errors import printable
from cifar_jax.runtime import charts, page
from cifar_jax.runtime.compatibility import FREE, changes
from cifar_jax.runtime.describe import VALIDATION
from cifar_jax.runtime.page import Section, percent
from cifar_jax.runtime.progress import format_duration
from cifar_jax.runtime.recipes import changed, group, teacher_sha256
from cifar_jax.runtime.records import Record, seed_of
from cifar_jax.runtime.statistics import summarize

RESULT = "ema_test_accuracy"
FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {  # column: key of results, as text
    "validation": (VALIDATION, percent),
    "test": (RESULT, percent),
    "not averaged": ("test_accuracy", percent),
    "with tta": ("tta_accuracy", percent),
    "test loss": ("ema_test_loss", "{:.3f}".format),
    "calibration": ("ema_test_calibration_error", percent),
    "time": ("seconds", format_duration),
}
CURVES = {  # of charts: key of the history
    "Validation accuracy, averaged [%]": "ema_validation_accuracy",
    "Validation loss, averaged": "ema_validation_loss",
    "Training loss": "train_loss",
}
FEW = 4  # fields that stand beside the figures; more have a table of their own


class Table(NamedTuple):
    """Names of columns, and rows of as many cells."""

    head: list[str]
    rows: list[list[str]]

    def __str__(self) -> str:
        """For the screen: columns as wide as their widest cell, all but the first to the right."""
        cells = [
            [printable(cell.replace("\N{NO-BREAK SPACE}", "")) for cell in row]
            for row in (self.head, *self.rows)
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = (
            [cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in cells
        )
        return "\n".join(
            "  ".join([first.strip().ljust(widths[0]), *others]).rstrip()
            for first, *others in lines
        )


class Comparison(NamedTuple):
    """Runs and how they compare.

    Attributes:
      records: the best first, by the averaged weights' accuracy; the unfinished last.
      recipes: the same in groups that differ in their seed alone, and were changed alike.
      fields: of the config, ``section.name``, that are not the same in all runs.
      by: key of results that they are sorted by: validation accuracy where all that are finished
        hold the same images out, else test accuracy.
    """

    records: list[Record]
    recipes: list[list[Record]]
    fields: list[str]
    by: str

    def columns(self) -> dict[str, tuple[str, Callable[[float], str]]]:
        """Those of :data:`FIGURES` that a finished run has; all if none is."""
        finished = [record.results for record in self.records if record.results]
        return {
            title: (key, text)
            for title, (key, text) in FIGURES.items()
            if not finished or any(results[key] is not None for results in finished)
        }

    def figures(self) -> Table:
        """A row a run; with the fields that differ where they are few."""
        fields = self.fields if len(self.fields) <= FEW else []
        if "train.seed" in self.fields:
            fields = ["train.seed", *(name for name in fields if name != "train.seed")]
        rows, columns = [], self.columns()
        for record in self.records:
            cells = ["unfinished", *[""] * (len(columns) - 1)]
            if record.results:
                found = [(record.results[key], text) for key, text in columns.values()]
                cells = ["" if value is None else text(value) for value, text in found]
            epoch = f"{len(record.history)} of {record.config.train.epochs}"
            if record.results:
                epoch = f"{record.selected_epoch} of {record.results['epochs']}"
            rows.append([record.name, *cells, epoch, *(value(record.config, f) for f in fields)])
        return Table(["run", *columns, "epoch", *fields], rows)

    def means(self) -> Table:
        """Mean and standard deviation of each recipe that several seeds have finished."""
        rows, columns = [], self.columns()
        for recipe in self.recipes:
            finished = [record.results for record in recipe if record.results]
            if len(finished) > 1:
                cells = []
                for key, text in columns.values():
                    values = [results[key] for results in finished]
                    found = summarize(values) if None not in values else None
                    cells.append(f"{text(found['mean'])} ± {text(found['std'])}" if found else "")
                rows.append([self.name_of(recipe), str(len(finished)), *cells])
        return Table(["mean ± std", "n", *columns], rows)

    def settings(self) -> Table:
        """A row a field that differs, a column a recipe; no rows where figures() has them."""
        if len(self.fields) <= FEW:
            return Table(["field"], [])
        fields = [name for name in self.fields if name != "train.seed" and name not in FREE]
        rows = [[name, *(value(r[0].config, name) for r in self.recipes)] for name in fields]
        return Table(["field", *map(self.name_of, self.recipes)], rows)

    def name_of(self, recipe: Sequence[Record]) -> str:
        """The name of runs that differ in their seed alone: of their sweep, or of the first."""
        of_sweeps = [_sweep_of(other) for other in self.recipes]
        own = _sweep_of(recipe)
        if own and of_sweeps.count(own) == 1:
            return own
        return recipe[0].name + (f" and {len(recipe) - 1} more" if len(recipe) > 1 else "")


def compare(records: Sequence[Record]) -> Comparison:
    """Sort runs and find what differs; at least one."""
    names = [record.name for record in records]
    records = [
        record if names.count(record.name) == 1 else record._replace(name=str(record.run.path))
        for record in records
    ]
    finished = [record for record in records if record.results]
    held_out = {record.config.held_out for record in finished}
    known = all(r.results and r.results[VALIDATION] is not None for r in finished)
    by = VALIDATION if known and len(held_out) == 1 else RESULT
    ordered = sorted(records, key=lambda r: -r.results[by] if r.results else 1)
    fields = {c.field for r in records for c in changes(records[0].config, r.config)}
    rank = {record.name: number for number, record in enumerate(ordered)}
    recipes = [sorted(recipe, key=lambda r: rank[r.name]) for recipe in group(records)]
    recipes.sort(key=lambda recipe: rank[recipe[0].name])
    every = [f"{s}.{name}" for s, names in to_dict(Config()).items() for name in names]
    return Comparison(ordered, recipes, [name for name in every if name in fields], by)


def _remarks(found: Comparison) -> list[str]:
    """What sets runs apart besides their configs."""
    lines = [f"{record.name}: {line}" for record in found.records for line in changed(record)]
    taught = {
        r.name: (r.config.distill.teacher, sha256)
        for r in found.records
        if (sha256 := teacher_sha256(r))
    }
    if len(set(taught.values())) > len({path for path, _ in taught.values()}):
        lines += [
            f"{name}: taught by {path}, SHA-256 {sha256[:16]}"
            for name, (path, sha256) in taught.items()
        ]
    return lines


def value(config: Config, field: str) -> str:
    """The value of ``section.name``, as text."""
    section, name = field.split(".")
    return page.plain(to_dict(config)[section][name])


def _sweep_of(recipe: Sequence[Record]) -> str:
    """The name of the sweep that all runs are of; empty if there is none."""
    folders = [record.run.path.resolve() for record in recipe]
    if len({path.parent for path in folders}) == 1 and None not in map(seed_of, folders):
        return folders[0].parent.name + (", changed" if changed(recipe[0]) else "")
    return ""


def describe(found: Comparison) -> str:
    """The tables for the screen."""
    tables = [found.figures(), found.means(), found.settings()]
    text = "\n\n".join(str(table) for table in tables if table.rows)
    return "\n".join([text, *map(printable, _remarks(found))])


def comparison_page(found: Comparison) -> str:
    """The page, as HTML."""
    means, settings = found.means(), found.settings()
    parts = [page.table(*found.figures(), "numbers")]
    if means.rows:
        parts.append("<h3>Over seeds</h3>" + page.table(*means, "numbers"))
    columns = (
        "test, not averaged, with tta: test accuracy of the averaged weights, of those of the last "
        "step of the same epoch, and of the averaged ones with test-time augmentation. test loss "
        "[nats] and calibration error are of the averaged weights. epoch: the one that is taken, "
        "of those trained; of a run that is not finished those trained, of all."
    )
    if "validation" in found.columns():
        columns = f"validation: of the averaged weights, by which the epoch is taken. {columns}"
    parts.append(page.paragraph(columns, "soft"))
    if changed := _remarks(found):
        parts.append(page.paragraph("; ".join(changed) + "."))
    sections = [Section("figures", "Figures", "\n".join(parts)), _curves(found)]
    if settings.rows:
        sections.append(Section("config", "What differs", page.table(*settings)))
    best, count = found.records[0], len(found.records)
    lead = "No run is finished."
    if best.results:
        lead = f"The highest test accuracy is {percent(best.results[RESULT])}, of {best.name}."
        if found.by == VALIDATION:
            lead = f"The highest validation accuracy is {percent(best.results[VALIDATION])}, of "
            lead += f"{best.name}, whose test accuracy is {percent(best.results[RESULT])}."
        elif count > 1:
            lead += " A recipe that is chosen by this needs other images to be judged by."
    state = f"Comparison, made {datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    title = f"{count} runs side by side" if count > 1 else best.name
    return page.document(title, state, lead, "", sections)


def _curves(found: Comparison) -> Section:
    styles = [charts.LINES[n % len(charts.LINES)] for n in range(len(found.recipes))]
    entries = [
        (_with_count(found.name_of(recipe), recipe), charts.COLORS[color], charts.CSS_LINES[style])
        for recipe, (color, style) in zip(found.recipes, styles, strict=True)
    ]
    drawn = {}
    for title, key in CURVES.items():
        lines = [
            (record.history, *style)
            for recipe, style in zip(found.recipes, styles, strict=True)
            for record in recipe
            if any(row.get(key) is not None for row in record.history)
        ]
        if lines:
            alt = f"{title} over the epochs of {len(lines)} runs"
            drawn[title] = charts.overlay(lines, key, alt)
    without = [r.name for r in found.records if not r.config.data.validation_examples]
    note = f"Without a validation split: {', '.join(without)}." if without else ""
    note += " Training figures are of augmented images, which differ where the recipes do."
    return Section(
        "curves",
        "Curves",
        page.legend(entries) + page.charts(drawn) + page.paragraph(note.strip(), "soft"),
    )


def _with_count(name: str, recipe: Sequence[Record]) -> str:
    return f"{name}, {len(recipe)} runs" if len(recipe) > 1 else name
