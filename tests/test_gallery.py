"""docs/gallery.md: each public function of augment has a picture, made by the call beside it."""

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_jax import augment, data

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))
make_gallery: Any = importlib.import_module("make_gallery")
sys.path.remove(str(DOCS))

PICTURES = {path.stem: path for path in (DOCS / "gallery").glob("*.png")}


def test_each_public_function_is_there():
    functions = {name for name in augment.__all__ if inspect.isfunction(getattr(augment, name))}
    assert {strip.name for strip in make_gallery.STRIPS} == functions == PICTURES.keys()
    for strip in make_gallery.STRIPS:
        assert f"augment.{strip.name}(" in strip.call + strip.captions


def test_the_page_is_that_of_the_script():
    assert (DOCS / "gallery.md").read_text() == make_gallery.text()


def test_the_pictures_are_small_and_show_something():
    assert sum(path.stat().st_size for path in PICTURES.values()) < 600_000
    for path in PICTURES.values():
        with Image.open(path) as picture:
            assert picture.height > 100
            assert np.asarray(picture).std() > 20


@pytest.mark.parametrize("name", ["horizontal_flip", "alternating_flip", "draw_holes", "mixup"])
def test_the_script_draws(name):
    (strip,) = (strip for strip in make_gallery.STRIPS if strip.name == name)
    images, captions = make_gallery.pictures(strip, data.make_synthetic(train=400, test=10), 0)
    assert len(images) == len(captions) in (7, 8)
    sheet = make_gallery.draw(images, captions)
    assert sheet.width == len(images) * 102
    first = np.asarray(sheet)[:96:3, :96:3]
    np.testing.assert_array_equal(first, np.uint8(images[0] * 255 + 0.5))
    assert len({image.tobytes() for image in images}) > 1
