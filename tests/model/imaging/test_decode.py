"""Files of every format are decoded to the same picture, and hostile ones are refused before they cost much."""

import io
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from model.imaging import decode
from model.imaging.decode import (
    FORMATS,
    MAX_PIXELS,
    NEEDED_SIDE,
    START_PIXELS,
    PictureError,
    PictureTooLarge,
    PixelBudget,
    format_of,
    open_picture,
)
from tests.support import heic
from tests.support.hostile_pictures import HOSTILE

SEVEN = [(30, 25), (88, 25), (52, 98)]


def seven(mode="L", paper=255, ink=20):
    picture = Image.new("L", (120, 120), paper)
    ImageDraw.Draw(picture).line(SEVEN, fill=ink, width=9, joint="curve")
    return picture.convert(mode)


def on_nothing(mode):
    picture = Image.new(mode, (120, 120))
    picture.putalpha(seven().point(lambda value: 255 - value))
    return picture


def file(picture, format, **options):
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def sixteen_bits(format, high, colour):
    """A 7 with values from 0 to `high`, in 16 bits."""
    pixels = (np.asarray(seven(ink=0)) * (high / 255)).round().astype(np.uint16)
    return cv2.imencode(f".{format}", np.dstack([pixels] * 3) if colour else pixels)[1].tobytes()


def grey(picture):
    """An L picture as a person sees it: what is transparent is white."""
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("L")
    return picture.convert("L")


SEVERAL = {"save_all": True, "append_images": [seven().rotate(90), seven().rotate(180)]}
GOOD = {
    **{f"PNG {mode}": lambda mode=mode: file(seven(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    "PNG LA, transparent": lambda: file(on_nothing("LA"), "PNG"),
    "PNG RGBA, transparent": lambda: file(on_nothing("RGBA"), "PNG"),
    "PNG P, transparent": lambda: file(seven("P"), "PNG", transparency=255),
    "PNG of 16 bits": lambda: sixteen_bits("png", 65535, False),
    "PNG of 16 bits, 12 used": lambda: sixteen_bits("png", 4095, False),
    "PNG of 16 bits, 8 used": lambda: sixteen_bits("png", 255, False),
    "PNG of 16 bits in colour": lambda: sixteen_bits("png", 65535, True),
    "PNG of 16 bits in colour, 12 used": lambda: sixteen_bits("png", 4095, True),
    "PNG of 16 bits in colour, 8 used": lambda: sixteen_bits("png", 255, True),
    **{f"JPEG {mode}": lambda mode=mode: file(seven(mode), "JPEG", quality=95) for mode in ("L", "RGB", "CMYK")},
    "JPEG progressive": lambda: file(seven("RGB"), "JPEG", quality=95, progressive=True),
    "JPEG CMYK, progressive": lambda: file(seven("CMYK"), "JPEG", quality=95, progressive=True),
    "JPEG with a film": lambda: file(seven(), "JPEG", quality=95) + bytes(range(256)) + b"\xff\xda" * 1_000,
    "WebP": lambda: file(seven("RGB"), "WEBP", quality=95),
    "WebP lossless, transparent": lambda: file(on_nothing("RGBA"), "WEBP", lossless=True),
    "WebP moving": lambda: file(seven("RGB"), "WEBP", lossless=True, **SEVERAL),
    **{f"BMP {mode}": lambda mode=mode: file(seven(mode), "BMP") for mode in ("1", "L", "P", "RGB")},
    "GIF": lambda: file(seven(), "GIF"),
    "GIF transparent": lambda: file(seven("P"), "GIF", transparency=255),
    "GIF moving": lambda: file(seven(), "GIF", **SEVERAL),
    **{f"TIFF {mode}": lambda mode=mode: file(seven(mode), "TIFF") for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK")},
    **{
        f"TIFF {packing}": lambda packing=packing: file(seven("RGB"), "TIFF", compression=packing)
        for packing in ("packbits", "tiff_lzw", "tiff_adobe_deflate", "jpeg")
    },
    "TIFF group4": lambda: file(seven("1"), "TIFF", compression="group4"),
    "TIFF of three pages": lambda: file(seven(), "TIFF", **SEVERAL),
    "TIFF of 16 bits, 12 used": lambda: sixteen_bits("tiff", 4095, False),
    "TIFF of 16 bits in colour": lambda: sixteen_bits("tiff", 65535, True),
    "TIFF of 16 bits in colour, 12 used": lambda: sixteen_bits("tiff", 4095, True),
    "TIFF of real numbers": lambda: file(Image.fromarray(np.float32(seven()) / 255), "TIFF"),
    "AVIF": lambda: file(seven("RGB"), "AVIF", quality=95),
    "AVIF transparent": lambda: file(on_nothing("RGBA"), "AVIF", quality=95),
    "HEIC": lambda: heic.SEVEN,
    "PGM": lambda: b"P5 120 120 255\n" + seven().tobytes(),
}


@pytest.mark.parametrize("name", GOOD)
def test_picture_of_every_format_is_the_one_drawn(name):
    data = GOOD[name]()
    assert format_of(data) == name.split()[0].upper()
    picture = open_picture(data)
    assert picture.size == (120, 120)
    difference = np.abs(np.asarray(grey(picture), float) - np.asarray(seven(), float))
    assert difference.mean() < 4 and np.median(difference) < 2
    # the pen is dark, and nothing else is
    assert ((np.asarray(grey(picture)) < 128) == (np.asarray(seven()) < 128)).mean() > 0.985


def test_formats_are_all_tried():
    assert {name.split()[0].upper() for name in GOOD} == set(FORMATS)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("large", [False, True])
def test_picture_is_turned_upright(format, large):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = seven("RGB").crop((0, 0, 120, 90))
    size = (90, 120)
    if large and format != "AVIF":
        picture, size = picture.resize((3_600, 2_700)), (1_350, 1_800)
    packed = {"compression": "tiff_lzw"} if format == "TIFF" else {}
    upright = open_picture(file(picture, format, exif=exif, **packed))
    assert upright.size == size
    expected = seven().crop((0, 0, 120, 90)).transpose(Image.Transpose.ROTATE_270)
    assert np.abs(np.asarray(upright.convert("L").resize((90, 120)), float) - np.asarray(expected)).mean() < 8


def test_heic_is_turned_upright():
    upright = open_picture(heic.TURNED)
    expected = seven().crop((0, 0, 120, 90)).transpose(Image.Transpose.ROTATE_270)
    assert upright.size == (90, 120) and np.abs(np.asarray(upright, float) - np.asarray(expected)).mean() < 6


@pytest.mark.parametrize(
    ("format", "mode"), [("PNG", "1"), ("PNG", "L"), ("PNG", "P"), ("PNG", "RGBA"), ("JPEG", "RGB"), ("WEBP", "RGB"),
                         ("GIF", "P"), ("TIFF", "RGB")],
)  # fmt: skip
def test_large_picture_is_reduced_by_a_whole_factor(format, mode):
    sheet = seven("L").resize((3 * NEEDED_SIDE + 50, 2_000)).convert(mode)
    options = {"WEBP": {"lossless": True, "method": 0}, "TIFF": {"compression": "tiff_lzw"}}
    reduced = open_picture(file(sheet, format, **options.get(format, {})))
    factor = 2 if format == "JPEG" else 3  # JPEG by powers of two
    assert reduced.size == (-(-sheet.width // factor), -(-sheet.height // factor))
    exactly = grey(sheet).reduce(factor)
    assert np.abs(np.asarray(grey(reduced), float) - np.asarray(exactly)).mean() < 1.5


def test_large_webp_of_several_frames_is_its_first_one():
    frames = [seven("RGB").resize((2_500, 2_000)), Image.new("RGB", (2_500, 2_000))]
    data = file(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=10, method=0)
    assert np.abs(np.asarray(open_picture(data).convert("RGB"), float) - np.asarray(frames[0])).mean() < 8


# Hostile files


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_picture_is_refused(name, capfd):
    data = HOSTILE[name]()
    with pytest.raises(PictureError, match=f"The data is not a whole {name.split()[1]} picture."):
        open_picture(data)
    assert capfd.readouterr() == ("", ""), "a codec complained to the log"


def test_damaged_tiff_says_nothing_to_the_log(capfd):
    with pytest.raises(PictureError):
        open_picture(file(seven(), "TIFF", compression="tiff_lzw")[:-2000])
    assert capfd.readouterr() == ("", "")


def test_pixels_are_limited_in_a_process_of_its_own_too():
    with pytest.raises(PictureTooLarge, match=f"6000 x 5000 pixels; at most {MAX_PIXELS:,} and"):
        open_picture(file(Image.new("1", (6_000, 5_000)), "TIFF", compression="group4"))
    budget = PixelBudget()
    open_picture(heic.SEVEN, budget=budget)
    assert budget.left == MAX_PIXELS - 120 * 120 - START_PIXELS


def test_picture_that_takes_long_in_a_process_of_its_own_is_refused(monkeypatch):
    monkeypatch.setattr(decode, "MAX_APART_SECONDS", 0.001)
    budget = PixelBudget()
    with pytest.raises(PictureError, match="The picture takes too long to decode."):
        open_picture(heic.SEVEN, budget=budget)
    assert budget.left == 0, "others in the same request may take as long"


def test_pictures_that_need_a_process_are_limited_in_number():
    """Each takes a tenth of a second to start; 256 in one request would take longer than a request may."""
    budget = PixelBudget()
    for _ in range(MAX_PIXELS // START_PIXELS):
        budget.left -= START_PIXELS
    with pytest.raises(PictureTooLarge, match="together"):
        open_picture(heic.SEVEN, budget=budget)


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "BMP"])
def test_usual_picture_loads_no_parser_of_rarer_ones(name, tmp_path):
    """Workers stay as small as they are."""
    (tmp_path / "picture").write_bytes(file(seven(), name))
    code = (
        "import sys; from model.imaging.decode import open_picture; open_picture(open(sys.argv[1], 'rb').read());"
        "sys.exit(any(name in sys.modules for name in ('cv2', 'pi_heif', 'PIL.AvifImagePlugin', 'PIL.GifImagePlugin')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "picture")]).returncode == 0
