"""Finds image files of any common format and reads them as the network takes them."""

import contextlib
import functools
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cifar_jax.errors import CifarJaxError, ConfigError, one_line
from cifar_jax.files import describe_failure

if TYPE_CHECKING:
    from PIL import Image

SIZE = 32  # of an image [pixels]
KINDS = 5  # of files that are no images, named in one line
BACKGROUND = "white"  # what is seen through transparent pixels, as on a page
WHITE = 2**16 - 1  # of grey levels of more than 8 bits
BITS, PHOTOMETRIC = 258, 262  # tags of TIFF
OTHERS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow leaves these to other programs


class ImageError(CifarJaxError):
    """A file that is not an image, or one that cannot be read; one line that names it."""

    status = 2


def read_image(path: str | Path) -> np.ndarray:
    """Read an image of any size: its middle square, scaled to 32x32.

    It is turned as its EXIF orientation says, if that can be read, laid on white where it is
    transparent, cut to its middle square and scaled by Lanczos' filter, which averages where it
    shrinks. An image of 32x32 pixels stays as it is. Of an animation the first frame is read. Grey,
    palettes and CMYK become RGB, 16 bits become 8; colour profiles are not applied.

    Args:
      path: a file of a format that Pillow reads.

    Returns:
      uint8 [32, 32, 3], RGB.

    Raises:
      ImageError: when it cannot be read, or has more pixels than Pillow allows (89 million).
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    try:
        if not path.is_file():  # a pipe or a device might never end
            reason = "must be a file" if path.exists() else "no such file"
            raise ImageError(f"{path}: {reason}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that is not read
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_formats()) as image:
                return _to_array(image)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not an image of a format that Pillow reads") from error
    except Exception as error:  # of any kind: decoders raise what a damaged file makes them
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(describe_failure(path, error, what="cannot be read")) from error
        raise ImageError(f"{path}: cannot be read: {one_line(error):.200}") from error


def find_images(
    paths: Sequence[Path],
    report: Callable[[str], None],
    *,
    note: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """The files that are named, and those in folders that are named as images.

    Args:
      paths: of files, whatever their names, and of folders.
      report: told each of these, and each folder inside of them, that cannot be read.
      note: told which kinds of files of each of ``paths`` are left out.

    Returns:
      Files in the order of ``paths``; of a folder first its own, then those of its folders, each
      by name. Links to folders are not followed. Names that begin with a dot are passed over, and
      __MACOSX, whose files are images by name only.

    Raises:
      ConfigError: when no path can be read, or there is no image; says what is there instead.
    """

    def fail(error: OSError) -> None:
        report(describe_failure(Path(error.filename), error, what="cannot be read"))

    found: list[Path] = []
    absent: list[str] = []
    others: dict[Path, Counter[str]] = {}  # how many there are of each suffix
    for path in paths:
        try:
            path.stat()
        except OSError as error:
            absent.append(describe_failure(path, error, what="cannot be read"))
            continue
        if not path.is_dir():
            found.append(path)
            continue
        others[path] = Counter()
        for folder, folders, names in os.walk(path, onerror=fail):
            folders[:] = sorted(name for name in folders if _is_seen(name))
            for file in (Path(folder, name) for name in sorted(names) if _is_seen(name)):
                suffix = file.suffix.lower()
                if suffix in _suffixes():
                    found.append(file)
                elif suffix[1:].isalnum():
                    others[path][suffix] += 1
    last = absent.pop() if len(absent) == len(paths) > 0 else None
    for line in absent:
        report(line)
    if last:
        raise ConfigError(last)
    if not found:
        kinds = _kinds(sum(others.values(), Counter()))
        text = f"{', '.join(map(str, paths))}: there is no image"
        raise ConfigError(text + (f"; files of other kinds: {kinds}" if kinds else ""))
    for path, counts in others.items():
        if counts:
            note(f"{path}: files of other kinds are left out: {_kinds(counts)}")
    return found


def _is_seen(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _kinds(counts: Counter[str]) -> str:
    """Suffixes and how often, as ``.heic 2, .mov 1``; beyond the five most frequent, the rest."""
    shown = counts.most_common(KINDS)
    if rest := counts.total() - sum(count for _, count in shown):
        shown.append(("others", rest))
    return ", ".join(f"{name} {count}" for name, count in shown)


@functools.cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in Image.ID if name in Image.OPEN and name not in OTHERS)


@functools.cache
def _suffixes() -> frozenset[str]:
    from PIL import Image

    formats = _formats()
    formats += ("MPO",) * ("JPEG" in formats)  # which opens both
    return frozenset(k for k, name in Image.registered_extensions().items() if name in formats)


def _to_array(image: "Image.Image") -> np.ndarray:
    from PIL import Image, ImageOps

    _scale_clear(image)
    image.load()
    with contextlib.suppress(Exception):  # of any kind: the pixels are there, EXIF is damaged
        ImageOps.exif_transpose(image, in_place=True)
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})  # of a TIFF
    if image.mode.startswith("I") and (tags.get(BITS) == (12,) or tags.get(PHOTOMETRIC) == 0):
        white = ", 0 being white" if tags.get(PHOTOMETRIC) == 0 else ""
        text = "grey levels of a TIFF of more than 8 bits must have 16, 0 being black"
        raise ValueError(f"{text}, not {tags[BITS][0]}{white}")
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    image = image.crop((left, top, left + side, top + side))
    if image.mode.startswith("I"):  # grey of 16 or 32 bits
        clear = image.info.get("transparency")
        image = image.convert("I")
        if isinstance(clear, int):  # the one level that is transparent
            levels = np.asarray(image)
            image = Image.fromarray(np.where(levels == clear, WHITE, levels).astype(np.int32))
        low, high = cast(tuple[int, int], image.getextrema())
        if low < 0 or high > WHITE:
            raise ValueError(f"grey levels must be between 0 and {WHITE}, not {low} to {high}")
        grey = np.asarray(_scaled(image)) * (255 / WHITE)
        return np.repeat(grey.round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)
    if image.mode == "F":
        raise ValueError("grey levels must be whole numbers")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, BACKGROUND)
        image = Image.alpha_composite(page, image)
    return np.array(_scaled(image.convert("RGB")))


def _scale_clear(image: "Image.Image") -> None:
    """Scale the transparent level of a PNG as Pillow scales its pixels when it loads them."""
    tiles = getattr(image, "tile", [])
    clear, raw = image.info.get("transparency"), tiles[0].args if tiles else None
    if clear is not None and raw in ("L;2", "L;4"):
        image.info["transparency"] = clear * {"L;2": 85, "L;4": 17}[raw]
    elif clear is not None and raw == "RGB;16B":
        image.info["transparency"] = tuple(level >> 8 for level in clear)


def _scaled(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
