import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

import cifar_jax
from cifar_jax.data import image as image_module
from cifar_jax.data.image import ImageError, find_images, read_image
from cifar_jax.errors import ConfigError


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


def save(image, path, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "tga", "ppm", "pcx", "PNG"])
def test_32x32_stays_as_it_is(tmp_path, pixels, suffix):
    path = save(pixels, tmp_path / f"a.{suffix}")
    found = read_image(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels)
    np.testing.assert_array_equal(cifar_jax.read_image(str(path)), pixels)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "gif"])
def test_formats_that_lose_something(tmp_path, suffix):
    smooth = np.linspace(0, 255, 32, dtype=np.uint8)[:, None, None].repeat(32, 1).repeat(3, 2)
    found = read_image(save(smooth, tmp_path / f"a.{suffix}"))
    np.testing.assert_allclose(found.astype(int), smooth, atol=16)


def test_the_middle_square_is_scaled(tmp_path):
    """Blocks of 10x10 pixels of one colour, with something else on both sides."""
    blocks = np.random.default_rng(1).integers(100, 156, (32, 32, 3), np.uint8)
    large = blocks.repeat(10, 0).repeat(10, 1)
    for shape, axis in (((320, 77, 3), 1), ((77, 320, 3), 0)):
        side = np.full(shape, 7, np.uint8)
        path = save(np.concatenate([side, large, side], axis), tmp_path / "a.png")
        expected = Image.fromarray(large).resize((32, 32), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(read_image(path), expected)
    small = save(np.full((1, 3, 3), 9, np.uint8), tmp_path / "small.png")
    np.testing.assert_array_equal(read_image(small), np.full((32, 32, 3), 9))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_is_the_image(tmp_path, pixels, orientation):
    """What each EXIF orientation does to rows and columns, by the standard."""
    turned = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels),
        7: np.rot90(pixels, 2).transpose(1, 0, 2),
        8: np.rot90(pixels, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(np.ascontiguousarray(turned), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(path), pixels)


def test_alpha_lies_on_white(tmp_path, pixels):
    alpha = np.random.default_rng(2).integers(0, 256, (32, 32, 1), np.uint8)
    path = save(np.concatenate([pixels, alpha], 2), tmp_path / "a.png")
    share = alpha / 255
    np.testing.assert_allclose(read_image(path), share * pixels + (1 - share) * 255, atol=1)
    path = save(np.concatenate([pixels[..., :1], alpha], 2), tmp_path / "grey.png")
    expected = (share * pixels[..., :1] + (1 - share) * 255).repeat(3, 2)
    np.testing.assert_allclose(read_image(path), expected, atol=1)


def test_a_transparent_colour_is_white(tmp_path):
    palette = Image.new("P", (32, 32), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.paste(0, (0, 0, 32, 16))
    for path in (tmp_path / "a.gif", tmp_path / "a.png"):
        found = read_image(save(palette, path, transparency=0))
        assert (found[:16] == 255).all()
        assert (found[16:] == [0, 0, 255]).all()
        assert (read_image(save(palette, path))[:16] == [255, 0, 0]).all()


def test_a_transparent_grey_of_16_bits_is_white(tmp_path):
    levels = np.full((32, 32), 257 * 100, np.uint16)
    levels[:16] = 0
    found = read_image(save(Image.fromarray(levels), tmp_path / "a.png", transparency=0))
    assert (found[:16] == 255).all()
    assert (found[16:] == 100).all()


def png(path, bits, colour, clear, other):
    """Write a PNG of a kind that Pillow cannot write: half is of the level that is transparent."""
    channels, packed = 3 if colour == 2 else 1, []
    for level in (clear, other):
        row = sum(level << bits * place for place in range(32 * channels))
        packed.append(b"\0" + row.to_bytes(32 * channels * bits // 8, "big"))
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 32, 32, bits, colour, 0, 0, 0),
        b"tRNS": struct.pack(f">{channels}H", *[clear] * channels),
        b"IDAT": zlib.compress(16 * packed[0] + 16 * packed[1]),
        b"IEND": b"",
    }
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks.items():
        content += struct.pack(">I", len(data)) + name + data
        content += struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("bits", "colour", "clear", "other", "seen"),
    [
        (1, 0, 0, 1, 255),
        (1, 0, 1, 0, 0),
        (2, 0, 1, 2, 170),
        (4, 0, 5, 3, 51),
        (8, 0, 9, 7, 7),
        (16, 0, 0x8000, 0x0101, 1),
        (8, 2, 9, 7, 7),
        (16, 2, 0x8000, 0, 0),
    ],
)
def test_a_transparent_level_of_any_bits_is_white(tmp_path, bits, colour, clear, other, seen):
    found = read_image(png(tmp_path / "a.png", bits, colour, clear, other))
    assert (found[:16] == 255).all()
    assert (found[16:] == seen).all()


def test_grey_bits_and_cmyk(tmp_path, pixels):
    grey = pixels[..., 0]
    found = read_image(save(grey, tmp_path / "grey.png"))
    np.testing.assert_array_equal(found, grey[..., None].repeat(3, 2))
    bits = Image.fromarray(grey).convert("1")
    np.testing.assert_array_equal(
        read_image(save(bits, tmp_path / "bits.png"))[..., 1], np.asarray(bits) * 255
    )
    cmyk = Image.fromarray(255 - pixels).convert("RGB")
    inks = np.concatenate([np.asarray(cmyk), np.zeros((32, 32, 1), np.uint8)], axis=2)
    found = read_image(save(Image.fromarray(inks, "CMYK"), tmp_path / "a.tiff"))
    np.testing.assert_array_equal(found, pixels)
    flat = np.full((32, 32, 4), (0, 255, 255, 0), np.uint8)  # red, as a printer's JPEG has it
    found = read_image(save(Image.fromarray(flat, "CMYK"), tmp_path / "a.jpg"))
    np.testing.assert_allclose(found, np.full_like(found, (255, 0, 0)), atol=3)


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_16_bits_become_8(tmp_path, suffix):
    grey = np.random.default_rng(3).integers(0, 2**16, (32, 32), np.uint16)
    found = read_image(save(grey, tmp_path / f"a.{suffix}"))
    np.testing.assert_array_equal(found, np.round(grey / 257)[..., None].repeat(3, 2))


def test_levels_without_a_known_white_are_refused(tmp_path):
    path = save(np.full((4, 4), 0.5, np.float32), tmp_path / "a.tiff")
    with pytest.raises(ImageError, match=r"a\.tiff: cannot be read: grey levels must be whole"):
        read_image(path)
    save(np.array([[-3, 0], [0, 70_000]], np.int32), path)
    with pytest.raises(ImageError, match=r"between 0 and 65535, not -3 to 70000$"):
        read_image(path)


@pytest.mark.parametrize(("bits", "photometric"), [(16, 1), (12, 1), (16, 0)])
def test_a_tiff_of_another_white_is_refused(tmp_path, bits, photometric):
    """Pillow gives all three as grey of 16 bits, as they are."""
    path, data = tmp_path / "a.tiff", bytes(4 * 4 * bits // 8)
    tags = {256: 4, 257: 4, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 4}
    tags[279] = len(data)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    table = struct.pack("<H", len(tags)) + entries + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + table)
    if bits == 16 and photometric:
        assert (read_image(path) == 0).all()
    else:
        said = "12" if photometric else "16, 0 being white"
        with pytest.raises(ImageError, match=rf"8 bits must have 16, 0 being black, not {said}$"):
            read_image(path)


def test_a_stereo_photo_is_an_image(tmp_path, pixels):
    """MPO, which Pillow opens by way of JPEG."""
    other = Image.fromarray(pixels[::-1])
    path = save(pixels, tmp_path / "a.mpo", save_all=True, append_images=[other], format="MPO")
    assert find_images([tmp_path], print) == [path]
    assert read_image(path).std() > 10


def test_the_first_frame(tmp_path, pixels):
    frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
    for suffix in ("png", "tiff"):
        path = save(frames[0], tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
        with Image.open(path) as image:
            assert getattr(image, "n_frames", 1) == 2
        np.testing.assert_array_equal(read_image(path), pixels)


def test_damaged_files_are_one_line(tmp_path, pixels):
    """Cut anywhere, and with other bytes in their headers."""
    rng = np.random.default_rng(4)
    refused = []
    for suffix in ("png", "jpg", "gif", "bmp", "webp", "tga", "ico", "qoi"):
        path = save(pixels, tmp_path / f"a.{suffix}")
        content = path.read_bytes()
        for _ in range(12):
            damaged = bytearray(content[: rng.integers(1, len(content))])
            damaged[rng.integers(min(len(damaged), 64))] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                assert read_image(path).shape == (32, 32, 3)
            except ImageError as error:
                refused.append(str(error))
    assert len(refused) > 48
    for line in refused:
        assert line.startswith(f"{tmp_path}/a.")
        assert line.isprintable()


def test_what_is_not_an_image(tmp_path):
    (tmp_path / "a.png").write_text("text")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for name, message in (
        ("a.png", "not an image of a format that Pillow reads"),
        ("a.eps", "not an image of a format that Pillow reads"),
        ("pipe.png", "must be a file"),
        ("absent.png", "no such file"),
        ("x" * 300, "cannot be read: File name too long"),
    ):
        with pytest.raises(ImageError, match=f"{name}: {message}$"):
            read_image(tmp_path / name)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch, pixels):
    path = save(pixels, tmp_path / "a.png")
    for limit in (1023, 500):  # Pillow warns of more pixels, and refuses twice as many
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ImageError, match=r"cannot be read: Image size \(1024 pixels\) exceeds"):
            read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1024)
    np.testing.assert_array_equal(read_image(path), pixels)


def test_folders_in_order(tmp_path, pixels):
    hidden = (".a.png", "b/._2.png", ".cache/1.png", "__MACOSX/b/2.png", "f/.x.mov")
    others = ("c.txt", "d/notes", "d/a.mov", "d/b.MOV", "d/x.mp4", "e/a.aa", "e/a.bb", "e/a.cc")
    for name in ("b/2.png", "b/10.png", "b/a/z.JPG", "a.png", "c.webp", *others, *hidden):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)

    said: list[str] = []

    def found(*names):
        paths = find_images([tmp_path / name for name in names], pytest.fail, note=said.append)
        return [path.relative_to(tmp_path).as_posix() for path in paths]

    assert found("") == ["a.png", "c.webp", "b/10.png", "b/2.png", "b/a/z.JPG"]
    kinds = ".mov 2, .txt 1, .mp4 1, .aa 1, .bb 1, others 1"
    assert said == [f"{tmp_path}: files of other kinds are left out: {kinds}"]
    assert found("c.txt", "b/a", "a.png") == ["c.txt", "b/a/z.JPG", "a.png"]
    with pytest.raises(ConfigError, match=r"/d: there is no image; files of other kinds: \.mov"):
        found("d")
    with pytest.raises(ConfigError, match=r"/f: there is no image$"):
        found("f")
    assert len(said) == 1


def test_paths_that_are_not_there_stop_no_others(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "empty").mkdir()
    told: list[str] = []

    def found(*names):
        told.clear()
        return [path.name for path in find_images([tmp_path / name for name in names], told.append)]

    absent = f"{tmp_path}/%s: cannot be read: No such file or directory"
    assert found("b", "a.png", "c") == ["a.png"]
    assert told == [absent % "b", absent % "c"]
    with pytest.raises(ConfigError, match=f"^{absent % 'c'}$"):
        found("b", "c")
    assert told == [absent % "b"]
    with pytest.raises(ConfigError, match=r"/empty: there is no image$"):
        found("b", "empty")
    assert told == [absent % "b"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()

    def walk(path, onerror):
        onerror(PermissionError(13, "Permission denied", str(path / "secret")))
        yield path, [], ["a.png"]

    monkeypatch.setattr(image_module.os, "walk", walk)
    said = []
    assert find_images([tmp_path], said.append) == [tmp_path / "a.png"]
    assert said == [f"{tmp_path / 'secret'}: cannot be read: Permission denied"]


def test_an_orientation_is_heard_among_damaged_exif(tmp_path, pixels):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker", 6
    content = exif.tobytes().replace(b"\x01\x0f", b"\x01\x00")  # the width of the image: text
    path = save(pixels, tmp_path / "a.png", exif=content)
    with Image.open(path) as image, pytest.raises(Exception, match="not an integer"):
        ImageOps.exif_transpose(image)  # which would write it back
    np.testing.assert_array_equal(read_image(path), np.rot90(pixels, -1))


def test_damaged_exif_is_left_out(tmp_path, pixels):
    """The pixels are whole: only how they are turned is not known."""
    save(pixels, tmp_path / "whole.jpg")
    save(pixels, tmp_path / "a.jpg", exif=b"Exif\0\0" + b"no TIFF header" * 3)
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.jpg"), read_image(tmp_path / "whole.jpg")
    )
