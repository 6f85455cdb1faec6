"""Draws docs/gallery.md: each augmentation, by the call that is shown beside its picture.

Usage: python docs/make_gallery.py

Reads CIFAR-10 from data/ and writes docs/gallery.md and docs/gallery/*.png.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cifar_jax import augment, data
from cifar_jax.augment import Box
from cifar_jax.config import AugmentConfig
from cifar_jax.files import replacing, write_text
from cifar_jax.runtime.pictures import caption

DOCS = Path(__file__).parent
COUNT = 7  # pictures in a strip
SIDE, GAP, LINE = 96, 6, 13  # of an image, between images, of a line of text [pixels]
SHOWN = (1, 0, 1, 12, 5, 10, 6)  # which training image of each class


class Strip(NamedTuple):
    """A row of the gallery.

    Attributes:
      name: of the function.
      about: a sentence.
      call: Python that gives images, images and targets, or boxes; see :func:`names`.
      captions: an expression, too, for one text an image; the labels where there are targets.
      first: caption of a first picture, the image as it was; none if empty.
    """

    name: str
    about: str
    call: str
    captions: str = ""
    first: str = "original"


PIXELS = (
    Strip(
        "horizontal_flip",
        "Each image with probability 0.5.",
        "augment.horizontal_flip(key, images)",
    ),
    Strip(
        "alternating_flip",
        "At random in the first epoch; from then on each image is flipped every other epoch.",
        "[augment.alternating_flip(key, images[:1], indices[:1], epoch)[0] for epoch in range(6)]",
        "[f'epoch {epoch}' for epoch in range(6)]",
    ),
    Strip(
        "random_crop",
        "Pads, and cuts a window at random. The border is zeros, or the image mirrored.",
        "augment.random_crop(key, images, padding=4, border='reflect101')",
    ),
    Strip(
        "shift_scale_rotate",
        "One bilinear warp, about the centre; the border as in a crop.",
        "augment.shift_scale_rotate(key, images, probability=1.0)",
    ),
    Strip(
        "affine",
        "The warp by itself, with parameters of one's own.",
        "augment.affine(images, angle=angles, scale_x=ones, scale_y=ones, shift_x=zeros, "
        "shift_y=zeros)",
        "[f'{angle:+.0f} degrees' for angle in angles]",
    ),
    Strip(
        "brightness_contrast",
        "Both drawn for each image.",
        "augment.brightness_contrast(key, images, probability=1.0)",
    ),
    Strip(
        "adjust_brightness_contrast",
        "The same with parameters of one's own: `x * (1 + contrast) + brightness`.",
        "augment.adjust_brightness_contrast(images, brightness=zeros, contrast=angles / 30)",
        "[f'contrast {angle / 30:+.2f}' for angle in angles]",
    ),
    Strip(
        "hue_saturation_value",
        "Three shifts drawn for each image, in OpenCV's 8-bit units.",
        "augment.hue_saturation_value(key, images, probability=1.0)",
    ),
    Strip(
        "shift_hsv",
        "The same with parameters of one's own.",
        "augment.shift_hsv(images, hue=angles, saturation=zeros, value=zeros)",
        "[f'hue {2 * angle:+.0f} degrees' for angle in angles]",
    ),
    Strip(
        "rgb_to_hsv",
        "Hue (in sextants, from -1 to 5), saturation and value of each pixel.",
        "[augment.rgb_to_hsv(images[0])[0] / 6 + 1 / 6, *augment.rgb_to_hsv(images[0])[1:]]",
        "['hue', 'saturation', 'value']",
    ),
    Strip(
        "hsv_to_rgb",
        "The inverse; here with the saturation halved.",
        "[augment.hsv_to_rgb(hue, saturation / 2, value) "
        "for hue, saturation, value in [augment.rgb_to_hsv(images[0])]]",
        "['half the saturation']",
    ),
    Strip(
        "normalize",
        "`(x - mean) / std`, which is what the network sees; here as grey plus a quarter of it.",
        "0.5 + augment.normalize(images[:1], mean=config.mean, std=config.std) / 4",
        "['normalised']",
    ),
    Strip(
        "coarse_dropout",
        "One rectangle of zeros.",
        "augment.coarse_dropout(key, images, probability=1.0)",
    ),
    Strip(
        "draw_holes",
        "Its rectangles.",
        "augment.draw_holes(key, 7, height=32, width=32, hole_min=4, hole_max=8)",
        "[f'{area} pixels' for area in result.area]",
        first="",
    ),
    Strip(
        "augment_pixels",
        "What a run does, as its config says: each operation or not, by chance.",
        "augment.augment_pixels(key, images, config)",
    ),
)
MIXES = (
    Strip(
        "mixup",
        "A blend with a partner; one weight a batch, or one an image with `per_image=True`.",
        "augment.mixup(key, batch, targets, alpha=1.0, per_image=True)",
        first="",
    ),
    Strip(
        "cutmix",
        "A rectangle of a partner; the weight is its area.",
        "augment.cutmix(key, batch, targets, alpha=1.0, per_image=True)",
        first="",
    ),
    Strip(
        "ricap",
        "Four crops of four images, patched at a corner that is drawn once a batch.",
        "augment.ricap(key, batch, targets, beta=0.3)",
        first="",
    ),
    Strip(
        "mix",
        "One of the three, or none, for the whole batch: what a run does after normalisation.",
        "augment.mix(keys[0], batch, targets, config)[:2]",
        first="",
    ),
    Strip(
        "draw_kind",
        "Which of them: none takes what the probabilities of the config leave.",
        "[augment.mix(k, batch, targets, config)[0][5] for k in keys]",
        "[augment.MIX_NAMES[augment.draw_kind(jax.random.split(k)[0], config)] for k in keys]",
        first="",
    ),
    Strip(
        "draw_lambda",
        "The weights of MixUp, from Beta(alpha, alpha); here as grey.",
        "jnp.ones((7, 32, 32, 3)) * augment.draw_lambda(key, 7, alpha=1.0).reshape(7, 1, 1, 1)",
        "[f'{weight:.2f}' for weight in augment.draw_lambda(key, 7, alpha=1.0)]",
        first="",
    ),
    Strip(
        "draw_cutmix_box",
        "The rectangle of CutMix, for a weight; it is clipped at the edges.",
        "augment.draw_cutmix_box(key, weights, height=32, width=32)",
        "[f'{weight:.2f} to be kept,\\n{1 - area / 1024:.2f} is' "
        "for weight, area in zip(weights, result.area, strict=True)]",
        first="",
    ),
    Strip(
        "draw_ricap_corner",
        "The corner where RICAP's patches meet.",
        "[patches(*augment.draw_ricap_corner(k, height=32, width=32, beta=0.3)) for k in keys]",
        "[f'row {y}, column {x}' for y, x in "
        "[augment.draw_ricap_corner(k, height=32, width=32, beta=0.3) for k in keys]]",
        first="",
    ),
)
STRIPS = PIXELS + MIXES


def names(dataset: data.Dataset, number: int) -> dict[str, Any]:
    """What the calls of a strip are made of: key, images, targets and parameters."""
    shown = [np.flatnonzero(dataset.train_labels == k)[n] for k, n in enumerate(SHOWN)]
    batch = jnp.asarray(dataset.train_images[shown], jnp.float32) / 255
    key = jax.random.key(number)

    def patches(y: jax.Array, x: jax.Array) -> jax.Array:
        rows, columns = jnp.arange(32).reshape(-1, 1, 1), jnp.arange(32).reshape(1, -1, 1)
        return 0.2 + 0.3 * (rows >= y) + 0.4 * (columns >= x)

    return {
        "augment": augment,
        "jax": jax,
        "jnp": jnp,
        "key": key,
        "keys": jax.random.split(key, COUNT),
        "images": jnp.repeat(batch[1:2], COUNT, axis=0),
        "indices": jnp.arange(COUNT),
        "batch": batch,
        "targets": jnp.eye(10)[jnp.asarray(dataset.train_labels[shown], jnp.int32)],
        "config": AugmentConfig(),
        "angles": jnp.linspace(-15.0, 15.0, COUNT),
        "ones": jnp.ones(COUNT),
        "zeros": jnp.zeros(COUNT),
        "weights": jnp.linspace(0.2, 0.95, COUNT),
        "patches": patches,
    }


def pictures(
    strip: Strip, dataset: data.Dataset, number: int
) -> tuple[list[np.ndarray], list[str]]:
    """The images of a strip, each [H, W, 3] in [0, 1], and their captions."""
    known = names(dataset, number)
    known["result"] = result = eval(strip.call, known)
    captions = [""] * COUNT
    if isinstance(result, Box):
        result = result.mask(32, 32).astype(jnp.float32)
    elif isinstance(result, tuple):
        result, targets = result
        captions = [caption(np.asarray(target), data.CLASS_NAMES) for target in targets]
        captions = [text.replace(" + ", "\n+ ") for text in captions]
    if strip.captions:
        captions = eval(strip.captions, known)
    images = [np.broadcast_to(np.asarray(image), (32, 32, 3)) for image in result]
    if strip.first:
        images, captions = [np.asarray(known["images"][0]), *images], [strip.first, *captions]
    return images, captions[: len(images)]


def draw(images: list[np.ndarray], captions: list[str]) -> Image.Image:
    """One row of images, every pixel a square, with their captions below."""
    font = ImageFont.load_default(size=11)
    lines = max(text.count("\n") + 1 for text in captions)
    sheet = Image.new("RGB", ((SIDE + GAP) * len(images), SIDE + LINE * lines + 6), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (image, text) in enumerate(zip(images, captions, strict=True)):
        pixels = Image.fromarray(np.uint8(np.clip(image, 0, 1) * 255 + 0.5))
        left = number * (SIDE + GAP)
        sheet.paste(pixels.resize((SIDE, SIDE), Image.Resampling.NEAREST), (left, 0))
        pen.multiline_text((left, SIDE + 2), text, "black", font, spacing=2)
    return sheet


def text() -> str:
    """What docs/gallery.md says."""
    lines = [
        "# Gallery of augmentations",
        "",
        "Made by `python docs/make_gallery.py` from training images of CIFAR-10. The call under",
        "each name made the picture: `images` is one image seven times, float32 [7, 32, 32, 3] in",
        "[0, 1]; `batch` and `targets` are seven images of seven classes and their labels [7, 10];",
        "`key` is a key and `keys` are seven; `indices` are 0 to 6, `angles` go from -15 to 15 and",
        "`weights` from 0.2 to 0.95; `ones` and `zeros` are seven of each; `patches` paints four",
        "quarters; `config` is the default `AugmentConfig()`. Options that are not named have the",
        "function's defaults. Signatures: [api.md](api.md).",
        "",
        "## Pixels",
    ]
    for strip in STRIPS:
        if strip is MIXES[0]:
            lines += ["", "## Mixes, with their soft labels"]
        lines += ["", f"### {strip.name}", "", strip.about, "", f"    {strip.call}", ""]
        lines += [f"![{strip.name}](gallery/{strip.name}.png)"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the text and the pictures."""
    dataset = data.load_cifar10(DOCS.parent / "data", report=print)
    (DOCS / "gallery").mkdir(exist_ok=True)
    for number, strip in enumerate(STRIPS):
        with replacing(DOCS / "gallery" / f"{strip.name}.png") as temporary:
            draw(*pictures(strip, dataset, number)).save(temporary, optimize=True)
    write_text(DOCS / "gallery.md", text())
    total = sum(path.stat().st_size for path in (DOCS / "gallery").iterdir())
    print(f"{DOCS / 'gallery'}: {len(STRIPS)} pictures, {total:,} bytes")


if __name__ == "__main__":
    main()
