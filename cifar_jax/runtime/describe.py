"""The figures of score.py as lines and tables for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cifar_jax.data import CLASS_NAMES


def describe_results(results: Mapping[str, Any], workdir: Path) -> str:
    """Lines for people about a finished run."""
    shares = _accuracies(results, "test") | {f"  and tta {results['tta']}": results["tta_accuracy"]}
    shares |= {f"  {name}": value for name, value in results["per_class_accuracy"].items()}
    lines = {name: _percent(value) for name, value in shares.items()} | {
        "epoch": f"{results['selected_epoch']} of {results['epochs']}",
        "parameters": f"{results['parameters']:,}",
        "images/s": f"{results['images_per_second']:.0f}",
        "results": workdir / "results.json",
    }
    return "\n".join(f"{name:22} {value}" for name, value in lines.items())


def describe_evaluation(found: Mapping[str, Any], split: str) -> str:
    """The tables of "eval" about the figures of :func:`score`, or of :func:`score_variables`."""
    views = {mode: figures["accuracy"] for mode, figures in found["views"].items()}
    if found["tta"] != "none":
        del views["none"]
    lines = _accuracies(found, split) | {f"  and tta {k}": v for k, v in views.items()}
    prefix = "" if "accuracy" in found else f"ema_{split}_"
    lines |= {
        "top-2 accuracy": found["top2_accuracy"],
        "calibration error": found[f"{prefix}calibration_error"],
    }
    words = [f"{k:22} {_percent(v)}" for k, v in lines.items()]
    words.append(f"{'loss':22} {found[f'{prefix}loss']:.4f}")
    words.append(f"{'true class':22} accuracy, and images by predicted class")
    words.append(" " * 30 + "".join(f"{name[:4]:>5}" for name in CLASS_NAMES))
    for (name, accuracy), row in zip(
        found["per_class_accuracy"].items(), found["confusion"], strict=True
    ):
        counts = "".join(f"{count:5}" for count in row)
        words.append(f"  {name:20} {_percent(accuracy):>7}{counts}")
    return "\n".join(words)


def _accuracies(found: Mapping[str, Any], split: str) -> dict[str, float]:
    if "accuracy" in found:
        return {f"{split} accuracy": found["accuracy"]}
    return {
        f"{split} accuracy": found[f"{split}_accuracy"],
        "with averaged weights": found[f"ema_{split}_accuracy"],
    }


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.2%}"
