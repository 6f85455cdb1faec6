from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from cifar_jax.config import AugmentConfig, Config
from cifar_jax.data import CLASS_NAMES
from cifar_jax.models import SeparableResNet, count_params, multiply_adds, receptive_field
from cifar_jax.runtime import charts, diagram, figures, pictures, reliability

NAMES = list(CLASS_NAMES)
NETWORKS = [
    SeparableResNet(),
    SeparableResNet(stem=8, stages=(8,), blocks=1, dropout=0, num_classes=100),
    SeparableResNet(stem=16, stages=(24, 512, 1024), blocks=3),
]


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


def check_texts_are_apart(figure: Figure) -> None:
    """No text runs into another one or out of the picture."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]:
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:  # it has a label, which is not drawn
                tick.set_visible(False)
                tick.label1.set_visible(False)
    boxes = [(t.get_window_extent(canvas.get_renderer()), t.get_text()) for t in texts(figure)]
    width, height = canvas.get_width_height()
    for box, text in boxes:
        assert min(box.x0, box.y0) >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
    for (first, text), (second, other) in combinations(boxes, 2):
        assert not first.overlaps(second), (text, other)


def decode(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.std() > 5  # not blank
    return pixels


def test_the_users_settings_change_no_picture(tmp_path):
    settings: Any = {
        "text.usetex": True,
        "savefig.bbox": "tight",
        "font.size": 30,
        "axes.grid": True,
    }
    figures.save(figures.curves_figure(history(3)), tmp_path / "one.png")
    with rc_context(settings):
        figures.save(figures.curves_figure(history(3)), tmp_path / "two.png")
        drawn = charts.curves(history(3), "loss", 2)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert charts.curves(history(3), "loss", 2) == drawn


def history(epochs: int, **others) -> list[dict]:
    return [
        {
            "epoch": epoch,
            "train_loss": 2 / epoch,
            "train_accuracy": 1 - 1 / (1 + epoch),
            "learning_rate": 0.1 / epoch,
            "images_per_second": 1e4,
            "seconds": 5.0,
        }
        | others
        for epoch in range(1, epochs + 1)
    ]


def curves(figure: Figure, panel: int) -> dict[str, np.ndarray]:
    return {
        str(line.get_label()): np.asarray(line.get_xydata()) for line in figure.axes[panel].lines
    }


@pytest.mark.parametrize("epochs", [1, 10, 1000])
def test_curves_hold_the_history(epochs):
    rows = history(epochs, validation_loss=0.5, ema_validation_accuracy=0.9)
    figure = figures.curves_figure(rows, selected_epoch=1)
    loss, accuracy, rate = (curves(figure, panel) for panel in range(3))
    x = np.arange(1, epochs + 1)
    np.testing.assert_allclose(loss["training (as augmented)"], np.stack([x, 2 / x], 1))
    np.testing.assert_allclose(loss["validation"][:, 1], 0.5)
    np.testing.assert_allclose(accuracy["training (as augmented)"][:, 1], 100 - 100 / (1 + x))
    np.testing.assert_allclose(accuracy["validation, averaged weights"][:, 1], 90)
    assert "validation" not in accuracy
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(accuracy)
    for panel in (loss, accuracy, rate):
        np.testing.assert_array_equal(panel.pop("selected: epoch 1")[:, 0], 1)
    (rates,) = rate.values()
    np.testing.assert_allclose(rates[:, 1], 0.1 / x)


def test_curves_leave_out_what_is_not_finite():
    rows = history(4)
    for row, value in zip(rows, [None, float("nan"), float("inf"), 0.25], strict=True):
        row["validation_loss"] = value
    loss = curves(figures.curves_figure(rows), 0)
    np.testing.assert_array_equal(loss["validation"], [[4, 0.25]])
    assert len(loss["training (as augmented)"]) == 4


def test_curves_of_nothing_are_empty_panels(tmp_path):
    figures.save(figures.curves_figure([]), tmp_path / "curves.png")
    assert decode(tmp_path / "curves.png").shape == (520, 1600, 3)


def test_curves_as_png(tmp_path):
    path = tmp_path / "curves.png"
    rows = history(3, validation_loss=1.0)
    figures.save(figures.curves_figure(rows, selected_epoch=2), path)
    assert decode(path).shape == (520, 1600, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]
    check_texts_are_apart(figures.curves_figure(history(200), selected_epoch=2))


def test_confusion(tmp_path):
    confusion = np.arange(100).reshape(10, 10)
    confusion[4] = 0  # a class without images
    figure = figures.confusion_figure(confusion, NAMES, title="test images")
    cells = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert len(cells) == 100
    assert cells[7, 2] == "27"  # predicted horse, truly a bird
    assert cells[2, 7] == "72"
    shares = figure.axes[0].images[0].get_array()
    assert shares is not None
    np.testing.assert_allclose(shares[7, 2], 72 / confusion[7].sum())
    assert f"{99 / confusion[9].sum():.1%}" in words(figure)
    assert "n/a" in words(figure)
    check_texts_are_apart(figures.confusion_figure(confusion * 50, NAMES, title="test images"))
    figures.save(figure, tmp_path / "confusion.png")
    assert decode(tmp_path / "confusion.png").shape == (1000, 1040, 3)


def test_reliability(tmp_path):
    bars = {
        "images": [0, 30, 70],
        "confidence": [None, 0.5, 0.8],
        "accuracy": [None, 0.2, 0.9],
    }
    figure = reliability.reliability_figure(bars, title="test images")
    right, gaps, images = (
        [(b.get_x(), b.get_y(), b.get_height()) for b in container]
        for axes in figure.axes
        for container in axes.containers
    )
    np.testing.assert_allclose(right[1:], [(1 / 3, 0, 0.2), (2 / 3, 0, 0.9)])
    np.testing.assert_allclose(gaps[1:], [(1 / 3, 0.2, 0.3), (2 / 3, 0.9, -0.1)], atol=1e-12)
    np.testing.assert_allclose([height for *_, height in images], [0, 30, 70])
    assert f"distance to the mean confidence: {0.3 * 0.3 + 0.7 * 0.1:.2%} on average" in words(
        figure
    )
    check_texts_are_apart(figure)
    figures.save(figure, tmp_path / "reliability.png")
    assert decode(tmp_path / "reliability.png").shape == (1000, 900, 3)


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({3: 1.0}, "cat"),
        ({3: 0.37, 8: 0.63}, "63% ship + 37% cat"),
        ({3: 0.999, 8: 0.001}, "cat"),
        ({0: 1, 1: 1, 2: 1}, "34% airplane + 33% automobile + 33% bird"),
        ({0: 0.3, 1: 0.25, 2: 0.2, 3: 0.15, 4: 0.1}, None),
    ],
)
def test_captions(weights, text):
    target = np.zeros(10, np.float32)
    target[list(weights)] = list(weights.values())
    named = pictures.caption(target, NAMES)
    assert named == text if text else named.count("%") == 4


@given(st.lists(st.floats(0, 1, width=32), min_size=10, max_size=10).filter(any))
def test_percents_sum_to_100(target):
    parts = pictures.caption(np.array(target), NAMES).split(" + ")
    assert len(parts) <= 4
    if len(parts) == 1:
        assert parts[0] == NAMES[int(np.argmax(target))]
        return
    percents = [int(part.split("% ")[0]) for part in parts]
    assert sum(percents) == 100
    assert min(percents) >= 1
    heaviest = sum(sorted(target)[-4:])
    shares = {name: 100 * weight / heaviest for name, weight in zip(NAMES, target, strict=True)}
    for part, percent in zip(parts, percents, strict=True):
        assert abs(percent - shares[part.split("% ")[1]]) < 1


def test_a_caption_needs_a_class():
    with pytest.raises(ValueError, match="positive weight"):
        pictures.caption(np.zeros(10), NAMES)


def test_augmentations(tmp_path):
    images = np.random.default_rng(0).random((11, 32, 32, 3), np.float32)
    mixed = pictures.caption(np.array([0.3, 0.3, 0, 0.2, 0.2, 0, 0, 0, 0, 0]), NAMES)
    captions = ["none\ncat"] * 3 + [f"ricap\n{mixed}"] * 8
    figure = figures.augmentations_figure(images, captions, columns=4)
    assert len(figure.axes[0].images) == 11
    assert len(words(figure)) == 11
    assert words(figure)[0] == "none\ncat"
    check_texts_are_apart(figure)
    path = tmp_path / "augmentations.png"
    figures.save(figure, path)
    pixels = decode(path)
    assert pixels.shape[1] == 4 * (32 * figures.SCALE + figures.GAP) + figures.GAP
    left, top = figures.GAP + 3, figures.GAP + 3  # the middle of the first image's first pixel
    shown = pixels[top :: figures.SCALE, left :: figures.SCALE][:32, :32]
    np.testing.assert_allclose(shown, images[0] * 255, atol=1.01)


def test_captions_match_images():
    with pytest.raises(ValueError, match="zip"):
        figures.augmentations_figure(np.zeros((2, 32, 32, 3)), ["only one"])


def test_a_failed_save_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    figures.save(figures.curves_figure(history(2)), path)
    before, figure = path.read_bytes(), figures.curves_figure(history(3))

    def fail(figure, file, **options):
        file.write(b"half a pict")
        raise OSError("no space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="no space"):
        figures.save(figure, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.parametrize("model", NETWORKS)
def test_diagram_rows_sum_to_the_network(model):
    rows = diagram.rows_of(model)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    assert sum(row.parameters for row in rows) == count_params(params)
    assert sum(row.multiply_adds for row in rows) == multiply_adds(model)
    assert ("Dropout" in [row.name for row in rows]) == (model.dropout > 0)
    blocks = [row for row in rows if row.stage is not None]
    assert [row.channels for row in blocks] == list(np.repeat(model.stages, model.blocks))
    for index, row in enumerate(blocks):
        name = f"stage{index // model.blocks + 1}_block{index % model.blocks + 1}"
        assert row.parameters == count_params(params[name])
        assert row.projects == ("shortcut" in params[name])
        assert row.detail == f"stride {1 + (index > 0 and index % model.blocks == 0)}"


@pytest.mark.parametrize("model", NETWORKS)
def test_diagram_shows_its_rows_without_overlaps(model):
    figure = diagram.architecture_figure(model)
    shown = words(figure)
    for row in diagram.rows_of(model):
        assert row.name in shown
        assert not row.parameters or f"{row.parameters:,}" in shown
        assert not row.multiply_adds or f"{row.multiply_adds:,}" in shown
    field = receptive_field(model)
    assert f"{field} \N{MULTIPLICATION SIGN} {field}" in shown
    check_texts_are_apart(figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    bars = [
        patch.get_window_extent() for patch in figure.axes[0].patches if type(patch) is Rectangle
    ]
    assert len(bars) >= 4
    for text in texts(figure):
        box = text.get_window_extent(canvas.get_renderer())
        assert not any(box.overlaps(bar) for bar in bars), text.get_text()


def test_diagram_of_the_original(tmp_path):
    figure = diagram.architecture_figure(SeparableResNet())
    shown = words(figure)
    assert {"150,690", "8.4 M", "109 \N{MULTIPLICATION SIGN} 109"} <= set(shown)
    figures.save(figure, tmp_path / "architecture.png")
    height, width, _ = decode(tmp_path / "architecture.png").shape
    assert width == 1600
    assert 900 < height < 1200


def test_the_sheet_has_flips_that_alternate():
    nothing = dict.fromkeys(("ricap", "mixup", "cutmix", "shift_scale_rotate"), 0.0)
    nothing |= dict.fromkeys(("brightness_contrast", "hue_saturation_value", "coarse_dropout"), 0.0)
    config = Config(augment=AugmentConfig(alternating_flip=True, **nothing))
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    shown, _ = pictures.augmentation_sheet(config, (images, np.zeros(8, np.uint8)))
    same, mirrored = (
        np.abs(shown - x / 255).max((1, 2, 3)) < 1e-5 for x in (images, images[:, :, ::-1])
    )
    assert np.all(same ^ mirrored)
    assert same.any()
    assert mirrored.any()
