"""The page of a run: what it gave and how, where it errs, and how to make it again."""

import contextlib
import datetime
import tempfile
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from cifar_jax.config import Config, to_dict
from cifar_jax.data.dataset import DataError
from cifar_jax.files import writing
from cifar_jax.models import ARCHITECTURES
from cifar_jax.runtime import charts, checkpoint, environment, figures, page, run_errors
from cifar_jax.runtime.cards import protocol
from cifar_jax.runtime.compatibility import changes
from cifar_jax.runtime.inputs import ImageSet, Inputs, load_inputs
from cifar_jax.runtime.page import Section, percent, plain
from cifar_jax.runtime.pictures import augmentation_sheet
from cifar_jax.runtime.progress import format_duration
from cifar_jax.runtime.records import Record, read

VIEWS = {"none": "1 view", "flip": "2 views", "full": "8 views"}
MIXES = {"none": "Not mixed", "ricap": "RICAP", "mixup": "MixUp", "cutmix": "CutMix"}
Say = Callable[[str], None]


def write_run_page(workdir: Path, output: Path, *, report: Say = lambda line: None) -> Record:
    """Write the page of a run, finished or not.

    Its result is that of results.json. The weights classify the test set once more, to show where
    they err; for a run that is not finished, the validation split. Without checkpoints or the data
    set, the page says what it lacks and why; a data set that is not there is fetched.

    Args:
      workdir: of the run.
      output: the HTML file to make or replace.
      report: told what is lacking, and each damaged checkpoint that is passed over.

    Returns:
      What the run's files say.

    Raises:
      ConfigError: when it is not a run, or one of its files is broken.
      WriteError: when the page cannot be written.
    """
    record = read(workdir)
    with writing(output), tempfile.TemporaryFile(dir=output.parent):
        pass  # before the work, which would be lost
    inputs, seen, lacking = _look(record, report)
    sections = [_curves(record)] if record.history else []
    if record.results:
        confusion = np.array(record.results["confusion"])
        sections.append(run_errors.classes(confusion, "test"))
    elif seen:
        confusion = seen.report.confusion()
        sections.append(run_errors.classes(confusion, "validation"))
    if seen:
        sections += run_errors.images(record, seen)
    if inputs:
        sections.append(_augmentation(record.config, inputs.train))
    sections += [_config(record.config), _environment(record), _again(record)]
    page.write(output, _document(record, sections, lacking))
    return record


def _look(record: Record, report: Say) -> tuple[Inputs | None, run_errors.Seen | None, str]:
    """The images, what the weights make of them, and what is lacking of both."""
    inputs, lacking = None, ""
    if not record.results and not record.config.data.validation_examples:
        lacking = "a run without a validation split is not looked into before it is finished"
    try:
        inputs = load_inputs(record.config, report=report)
        if not lacking:
            return inputs, run_errors.look(record, inputs, report=report), ""
    except (DataError, checkpoint.CheckpointError) as error:
        lacking = str(error)
        report(f"the page is without images: {error}")
    return inputs, None, lacking


def _document(record: Record, sections: list[Section], lacking: str) -> str:
    config, results, history = record.config, record.results, record.history
    network = ARCHITECTURES[config.model.architecture].__name__
    data = "generated images" if config.data.source == "synthetic" else "CIFAR-10"
    epochs, chosen = config.train.epochs, record.selected_epoch
    if results:
        state = f"{network} on {data}, finished {results['date']}"
        lead = (
            f"{percent(results['ema_test_accuracy'])} of the {results['test_images']:,} test "
            f"images are classified correctly ({protocol(config, results)})."
        )
        top = page.facts(_figures(results))
    elif not history:
        state, top = f"{network} on {data}, not finished", ""
        lead = f"No epoch of {epochs} is finished yet."
    else:
        moment = datetime.datetime.fromtimestamp(record.run.metrics.stat().st_mtime, datetime.UTC)
        state = f"{network} on {data}, not finished: epoch {len(history)} of {epochs} ended "
        state += f"{moment:%Y-%m-%d %H:%M} UTC"
        row = next(row for row in history if row["epoch"] == chosen)
        lead = (
            f"The training loss is {row['train_loss']:.3f} after {len(history)} of {epochs} epochs"
        )
        if (accuracy := row.get("ema_validation_accuracy")) is not None:
            lead = (
                f"{percent(accuracy)} of the {config.data.validation_examples:,} validation images "
                f"are classified correctly, by the averaged weights of epoch {chosen}, the best of "
                f"{len(history)} so far, of {epochs}"
            )
        lead, top = f"{lead}; the test set has not been scored.", ""
    if lacking:
        top += page.paragraph(f"Not shown: the images that it errs on: {lacking}.", "soft")
    return page.document(record.name, state, lead, top, sections)


def _figures(results: Mapping[str, Any]) -> dict[str, str]:
    error = results["ema_test_calibration_error"]
    return {
        "Test accuracy": percent(results["ema_test_accuracy"]),
        f"Test accuracy, {VIEWS[results['tta']]}": percent(results["tta_accuracy"]),
        "Test accuracy, not averaged": percent(results["test_accuracy"]),
        "Cross-entropy [nats]": f"{results['ema_test_loss']:.3f}",
        "Calibration error": "not recorded" if error is None else percent(error),
        "Epoch taken": f"{results['selected_epoch']} of {results['epochs']}",
        "Training time": format_duration(results["seconds"]),
        "Training images/s": f"{results['images_per_second']:,.0f}",
        "Parameters": f"{results['parameters']:,}",
        "Multiply-adds an image": f"{results['multiply_adds']:,}",
    }


def _curves(record: Record) -> Section:
    history, chosen = record.history, record.selected_epoch
    drawn = {
        title: charts.curves(history, quantity, chosen)
        for quantity, title in figures.QUANTITIES.items()
    }
    names = list(dict.fromkeys(name for row in history for name in row if name != "epoch"))
    rows = [[str(row["epoch"]), *(_short(row.get(name)) for name in names)] for row in history]
    return Section(
        "curves",
        "Curves",
        page.legend(charts.series_legend(history, chosen))
        + page.charts(drawn)
        + page.paragraph(
            "Training figures are of augmented images, with dropout, against mixed and smoothed "
            "labels where the recipe has them: they are no measure of the others.",
            "soft",
        )
        + page.details(
            f"All figures of {len(history)} epochs", page.table(["epoch", *names], rows, "numbers")
        ),
    )


def _short(value: Any) -> str:
    """A figure in at most six digits, another value as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _augmentation(config: Config, train: ImageSet) -> Section:
    images, captions = augmentation_sheet(config, train)
    sheets: dict[str, list[str]] = {}
    for pixels, text in zip(np.rint(images * 255).astype(np.uint8), captions, strict=True):
        mix, label = text.split("\n", 1)
        alt = f"augmented training image, {MIXES[mix].lower()}: {label}"
        sheets.setdefault(mix, []).append(page.image(pixels, alt, escape(label)))
    text = "Training images as the network sees them, each with its label."
    rows = [f"<h3>{MIXES[mix]}</h3>\n{page.sheet(shown)}" for mix, shown in sheets.items()]
    return Section("augmentation", "Augmentation", page.paragraph(text) + "\n".join(rows))


def _config(config: Config) -> Section:
    changed = {change.field: change for change in changes(Config(), config)}
    first = [[name, plain(c.new), plain(c.old)] for name, c in changed.items()]
    rest = [
        [f"{section}.{name}", plain(value)]
        for section, fields in to_dict(config).items()
        for name, value in fields.items()
        if f"{section}.{name}" not in changed
    ]
    body = page.paragraph("Every field has its default.")
    if first:
        body = page.table(["Field", "This run", "Default"], first)
    folded = page.table(["Field", "Value"], rest)
    return Section("config", "Config", body + page.details(f"The other {len(rest)} fields", folded))


def _environment(record: Record) -> Section:
    known = record.results
    if known is None:
        known = {}
        with contextlib.suppress(checkpoint.CheckpointError):  # gone since: it is still training
            if last := checkpoint.latest_valid(record.run.checkpoints):
                known = checkpoint.read_progress(last)
        known |= known.get("environment", {})
    device, rows = known.get("device", {}), []
    if device:
        cores = f"{device['cpu_cores']} CPU cores"
        count = f"{device['count']} x " if device["count"] > 1 else ""
        rows.append(["Device", f"{count}{device['kind']} ({device['platform']}), {cores}"])
        rows.append(["Convolutions", known["convolutions"]])
    if "date" in known:
        rows.append(["Date", known["date"]])
    rows += [[name, version] for name, version in known.get("versions", {}).items()]
    settings: dict[str, Any] = known.get("settings", {})
    changed = {k: v for k, v in settings.items() if v != environment.SETTINGS.get(k)}
    rows += [[name, str(value)] for name, value in changed.items()]
    for change in known.get("config_changes", []):
        what = f"{change['field']}: {plain(change['old'])} -> {plain(change['new'])}"
        rows.append([f"Config changed at step {change['step']}", what])
    for change in known.get("environment_changes", []):
        rows.append([f"Environment changed at step {change['step']}", change["change"]])
    body = page.table([], rows, "hashes") if rows else page.paragraph("Not known yet.")
    return Section("environment", "Environment", body)


def _again(record: Record) -> Section:
    config, results = record.config, record.results
    rows = [["Seed", str(config.train.seed)]]
    body = ""
    if results:
        pins = [
            f"{name}=={version}"
            for name, version in results["versions"].items()
            if name not in ("python", "cifar_jax", "code")
        ]
        lines = [
            f"pip install -e . {' '.join(pins)}",
            results["command"] or "# from Python: train(config, workdir)",
        ]
        body = page.code("\n".join(lines))
        rows += [
            ["Config, SHA-256", results["config_sha256"]],
            ["Final weights, SHA-256", results["weights_sha256"]],
            ["Test protocol", protocol(config, results)],
        ]
    else:
        rows += [["Config, SHA-256", config.sha256]]
    note = (
        "With the same code, device and versions a CPU gives the same weights, bit for bit; "
        "docs/reproducing.md says what else can be expected."
    )
    if results and (changed := results["config_changes"]):
        steps = " and ".join(dict.fromkeys(f"step {change['step']:,}" for change in changed))
        note = f"The config was changed at {steps}: the command alone trains another network."
    body += page.table([], rows, "hashes") + page.paragraph(note, "soft")
    return Section("again", "Make it again", body)
