"""The pixel pipeline alone: ours against Albumentations with a process for each core.

Usage: python benchmarks/against_albumentations.py [--rounds 9] [--python INTERPRETER] [--json]
    [--out FOLDER]

From batches of uint8 images to batches of normalised float32 images, without the mix: flip; shift,
scale and rotate; brightness and contrast; hue, saturation and value; coarse dropout. Contenders
take turns on the same cores. Needs albumentations 2, in this interpreter or in another one:

    pip install albumentations==2.0.8 opencv-python-headless
"""

# pyright: reportMissingImports=false
import argparse
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from measure import Parser, add_output_options, positive, refuse
from turns import contest, cores, serve, serve_ours

OURS, THEIRS = "cifar_jax", "albumentations"
MEAN, STD = (0.49140, 0.48216, 0.44653), (0.24703, 0.24349, 0.26159)

_process: dict[str, Any] = {}  # of a worker of the pool: its pipeline and its images


def ours(options: argparse.Namespace) -> tuple[Callable[[], int], dict[str, Any]]:
    """A turn of our pixel pipeline, and what it runs on."""
    import jax

    jax.config.update("jax_platforms", "cpu")  # where Albumentations computes
    from workload import Workload, environment

    work = Workload(batch=options.batch, steps=options.steps)
    _, call = work.augment(pixels_only=True)

    def turn() -> int:
        call()
        return work.images_of_call

    return turn, environment()


def theirs(options: argparse.Namespace) -> tuple[Callable[[], int], dict[str, Any]]:
    """A turn of Albumentations: a batch is a task, as it is for the workers of a DataLoader."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or it looks for a newer version
    try:
        import albumentations
        import cv2
    except ImportError as error:
        refuse(f"needs albumentations 2 (pip install albumentations): {error}")
    _start(options.batch)  # what fails in it would fail in a pool for ever
    pool = multiprocessing.Pool(cores(), _start, (options.batch,))

    def turn() -> int:
        return sum(pool.imap_unordered(_augment, range(options.steps)))

    versions = {"albumentations": albumentations.__version__, "opencv": cv2.__version__}
    return turn, versions | {"processes": cores()}


def _start(batch: int) -> None:
    import albumentations as A
    import cv2
    import numpy as np

    warnings.simplefilter("ignore")  # ShiftScaleRotate is an old name of Affine
    cv2.setNumThreads(0)  # processes share the cores, as in a DataLoader
    _process["pipeline"] = A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.ShiftScaleRotate(0.1, 0.1, 15, border_mode=cv2.BORDER_CONSTANT, p=0.5),
            A.RandomBrightnessContrast(0.2, 0.2, p=0.5),
            A.HueSaturationValue(20, 30, 20, p=0.5),
            A.CoarseDropout((1, 1), (4, 8), (4, 8), p=0.3),
            A.Normalize(MEAN, STD),
        ]
    )
    _process["images"] = np.random.default_rng(0).integers(0, 256, (batch, 32, 32, 3), np.uint8)


def _augment(_: int) -> int:
    import numpy as np

    pipeline, images = _process["pipeline"], _process["images"]
    return len(np.stack([pipeline(image=image)["image"] for image in images]))


def main() -> None:
    """Read the options, let the contenders take turns, and tell."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=positive, default=128, help="images of a batch")
    parser.add_argument("--rounds", type=positive, default=9)
    parser.add_argument("--steps", type=positive, default=78, help="batches of a turn")
    parser.add_argument("--python", default=sys.executable, help="that has albumentations")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    add_output_options(parser)
    options = parser.parse_args()
    if options.worker:
        if options.worker == OURS:
            serve_ours(ours, options)
        else:
            serve(*theirs(options))
        return
    words = [__file__, f"--batch={options.batch}", f"--steps={options.steps}", "--worker"]
    commands = {OURS: [sys.executable, *words, OURS], THEIRS: [options.python, *words, THEIRS]}
    title = "Pixel pipeline, from uint8 to normalised batches"
    contest("against_albumentations", commands, options, title=title, memory=False)


if __name__ == "__main__":
    main()
