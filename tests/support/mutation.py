"""Damages files and request bodies by number: the same seed and number make the same case on every machine.

A case is a sound file or body and a few blows to it.
"""

from __future__ import annotations

import functools
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tests.support import heic
from tests.support.requests import data_url, encoded
from webapp.corrections.store import NOT_A_DIGIT

MOST_BLOWS = 8
# So many of a thousand cases begin with a file near the limits of bytes or pixels, which take a hundred times longer.
LARGE_PER_THOUSAND = 3
APART_PER_THOUSAND = 5  # and so many with one that is decoded in a process of its own
MENDED = 0.85  # of PNG files have right checksums again, or hardly any damage would get past them
SIGNATURE = b"\x89PNG\r\n\x1a\n"
EDGES = (0, 1, 2, 127, 128, 255, 256, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)


@dataclass(frozen=True)
class Blow:
    """One damage, told so that it can be done to a file of any length: `place` and `share` are shares of it."""

    kind: str
    place: float
    share: float
    value: int

    @classmethod
    def draw(cls, chance: random.Random) -> Blow:
        return cls(chance.choice(list(BLOWS)), chance.random(), chance.random() ** 4, chance.getrandbits(32))

    def fall(self, data: bytearray) -> None:
        if data:
            BLOWS[self.kind](data, int(self.place * len(data)), 1 + int(self.share * min(len(data), 4096)), self.value)


def _beaten(data: bytes, blows: Iterable[Blow]) -> bytes:
    done = bytearray(data)
    for blow in blows:
        blow.fall(done)
    return bytes(done)


def _flip(data, place, length, value):
    data[place] ^= 1 << value % 8


def _set(data, place, length, value):
    data[place] = value % 256


def _edge(data, place, length, value):
    """A number where formats keep lengths and sizes, at the edge of what it can hold."""
    layout = (">I", "<I", ">H", "<H")[value % 4]
    number = EDGES[value // 4 % len(EDGES)] % (1 << 8 * struct.calcsize(layout))
    data[place : place + struct.calcsize(layout)] = struct.pack(layout, number)


def _remove(data, place, length, value):
    del data[place : place + length]


def _repeat(data, place, length, value):
    data[place:place] = data[place : place + length] * (1 + value % 8)


def _noise(data, place, length, value):
    data[place : place + length] = random.Random(value).randbytes(length)


def _fill(data, place, length, value):
    data[place : place + length] = bytes([value % 256]) * length


def _cut(data, place, length, value):
    del data[place:]


def _graft(data, place, length, value):
    """A piece of another file."""
    other = small_files()[value % len(small_files())]
    data[place : place + length] = other[value % len(other) :][:length]


BLOWS: dict[str, Callable[[bytearray, int, int, int], None]] = {
    "flip": _flip, "set": _set, "edge": _edge, "remove": _remove, "repeat": _repeat, "noise": _noise, "fill": _fill,
    "cut": _cut, "graft": _graft,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A sound file and what is done to it; `deep` blows fall on a PNG's pixels before they are packed."""

    sound: bytes
    blows: tuple[Blow, ...]
    deep: bool
    mended: bool

    def damaged(self) -> bytes:
        data, blows = self.sound, self.blows
        if self.deep:
            data, blows = _with_other_pixels(data, blows[:1]), blows[1:]
        data = _beaten(data, blows)
        return mended(data) if self.mended else data


def picture_case(seed: int, number: int, files: tuple[bytes, ...] | None = None) -> Case:
    """The damaged picture of this number; `files` are the sound ones to choose from."""
    chance = random.Random(f"{seed} picture {number}")
    kind = 1000 * chance.random()
    if files is None:
        files = large_files() if kind < LARGE_PER_THOUSAND else small_files()
        files = files_decoded_apart() if kind >= 1000 - APART_PER_THOUSAND else files
    return Case(chance.choice(files), _blows(chance), deep=chance.random() < 0.5, mended=chance.random() < MENDED)


def _blows(chance: random.Random) -> tuple[Blow, ...]:
    """Mostly few, so that much of the damage is met by what comes late in the decoding."""
    return tuple(Blow.draw(chance) for _ in range(1 + int(MOST_BLOWS * chance.random() ** 3)))


@dataclass(frozen=True)
class Request:
    """What is posted."""

    path: str
    body: bytes
    content_type: str


def request_case(seed: int, number: int) -> Request:
    """The request of this number: a damaged picture in a sound body, a damaged body, or JSON of any shape."""
    chance = random.Random(f"{seed} request {number}")
    path = chance.choices(("/predict", "/feedback"), (9, 1))[0]
    kind = chance.random()
    if kind < 0.4:
        images = [data_url(picture_case(seed, chance.getrandbits(60)).damaged(), _type(chance)) for _ in range(2)]
        body = json.dumps(_asked(chance, path, images)).encode()
    elif kind < 0.7:
        sound = [data_url(chance.choice(small_files()), _type(chance)) for _ in range(2)]
        body = _beaten(json.dumps(_asked(chance, path, sound)).encode(), _blows(chance))
    else:
        body = _any_json(chance, 0).encode(errors="surrogatepass")
    usual = "application/json"
    content_type = usual if chance.random() < 0.97 else chance.choice(("text/plain", "multipart/form-data", "", "\xff"))
    return Request(path, body, content_type)


def _type(chance: random.Random) -> str:
    return chance.choices(("png", "jpeg", "heic", "x-portable-graymap", "no_type"), (6, 3, 3, 3, 1))[0]


def _asked(chance: random.Random, path: str, images: list[str]) -> dict:
    if path == "/feedback":
        return {"image": images[0], "meant": chance.choice((*range(10), NOT_A_DIGIT))}
    return {"images": images} if chance.random() < 0.2 else {"image": images[0]}


def _any_json(chance: random.Random, depth: int) -> str:
    """Text that is JSON, or nearly."""
    kind = chance.random()
    if depth > 3 or kind < 0.45 and depth:
        return chance.choice(SCALARS) if chance.random() < 0.9 else json.dumps(chance.randbytes(8).decode("latin-1"))
    if kind < 0.55:
        return "[" * chance.choice((1, 500, 60_000)) + chance.choice(SCALARS)
    inner = [_any_json(chance, depth + 1) for _ in range(chance.randint(0, 4))]
    if kind < 0.65:
        return f"[{','.join(inner)}]"
    names = [chance.choice(("image", "images", "meant", "x", "\\ud800", "")) for _ in inner]
    return "{" + ",".join(f'"{name}":{value}' for name, value in zip(names, inner, strict=True)) + "}"


SCALARS = (
    "null", "true", "false", "0", "-1", "7", "7.0", "1e400", "-1e400", "NaN", "Infinity", "9" * 5000, "1e-400", "01",
    '""', '"\\ud800"', '"\\u0000"', '"not_a_digit"', "'", "{", "]", "\x00", '"data:image/png;base64,"',
    '"data:image/png;base64,####"', '"data:image/png;base64,aGk=aGk="', '"data:image/jpeg;base64,_-8="',
    '"data:image/png;base64,\u00e9"',
)  # fmt: skip


# Sound files


def mended(data: bytes) -> bytes:
    """A PNG with its checksums made right, as far as its parts can be followed; anything else as it is."""
    if not data.startswith(SIGNATURE):
        return data
    place, parts = len(SIGNATURE), [SIGNATURE]
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        if end + 4 > len(data):
            break
        parts += data[place:end], struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return b"".join(parts) + data[place:]


def _with_other_pixels(data: bytes, blows: tuple[Blow, ...]) -> bytes:
    """A sound PNG whose filtered rows the blows fell on, packed again; of another format the blows fall on the file."""
    if not data.startswith(SIGNATURE):
        return _beaten(data, blows)
    place, before, packed, after = len(SIGNATURE), SIGNATURE, b"", b""
    while place < len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        part, place = data[place : place + length + 12], place + length + 12
        if kind == b"IDAT":
            packed += part[8:-4]
        elif packed:
            after += part
        else:
            before += part
    rows = _beaten(zlib.decompress(packed), blows)
    return before + part_of_png(b"IDAT", zlib.compress(rows, 1)) + after


def part_of_png(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@functools.cache
def small_files() -> tuple[bytes, ...]:
    """Drawings in every format, mode and kind of packing that is read."""
    grey, files = _drawing(48), []
    coloured, bare = grey.convert("RGB"), _on_nothing(grey)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        picture = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
        files.append(encoded(picture))
    files += [
        encoded(grey.quantize(8), transparency=0),
        encoded(coloured.quantize(4), bits=2),
        encoded(bare),
        encoded(bare, exif=_turned(6), dpi=(300, 300)),
        encoded(grey, save_all=True, append_images=[grey.rotate(90)]),
        encoded(coloured, transparency=(255, 255, 255)),
        encoded(_drawing(5)),
        encoded(Image.new("L", (1, 1))),
    ]
    for options in ({}, {"progressive": True}, {"quality": 5}, {"subsampling": 0}, {"restart_marker_rows": 1},
                    {"exif": _turned(3)}, {"icc_profile": b"profile" * 30}):  # fmt: skip
        files.append(encoded(coloured, "JPEG", **options))
    files += [encoded(grey, "JPEG"), encoded(coloured.convert("CMYK"), "JPEG")]
    files += [encoded(bare, "WEBP", **options) for options in ({}, {"lossless": True}, {"exif": _turned(8)})]
    moving = {"save_all": True, "append_images": [grey.rotate(9)]}
    files += [encoded(coloured, "WEBP", quality=1), encoded(grey, "WEBP", **moving)]
    files += [encoded(grey.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")]
    files += [encoded(grey, "PPM"), encoded(_drawing(5), "PPM")]
    files += [encoded(grey, "GIF", **options) for options in ({}, {"transparency": 255}, {"interlace": 0}, moving)]
    return tuple(files)


@functools.cache
def files_decoded_apart() -> tuple[bytes, ...]:
    """Drawings in the formats that are decoded in a process of their own."""
    grey = _drawing(48)
    coloured, deep = grey.convert("RGB"), Image.fromarray(np.asarray(grey).astype(np.uint16) * 16)
    packings = (None, "packbits", "tiff_lzw", "tiff_adobe_deflate", "jpeg")
    return (
        *(encoded(picture, "TIFF", compression=packing) for packing in packings for picture in (grey, coloured)),
        *(encoded(grey.convert("1"), "TIFF", compression=packing) for packing in ("group3", "group4")),
        encoded(deep, "TIFF"), encoded(coloured.convert("CMYK"), "TIFF"),
        encoded(coloured, "TIFF", save_all=True, append_images=[grey.rotate(9)]),
        *(encoded(picture, "AVIF") for picture in (grey, coloured, _on_nothing(grey))),
        heic.SEVEN, heic.TURNED,
    )  # fmt: skip


@functools.cache
def large_files() -> tuple[bytes, ...]:
    """Large files: sheets of four million pixels, one of 25 million, and noise of almost 1 MB."""
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (600, 560, 3), np.uint8))
    sheet, wide = _drawing(2000, grain=0), _drawing(1000, grain=0).resize((16_000, 250))
    return (
        encoded(sheet), encoded(sheet.convert("RGB")), encoded(_on_nothing(sheet)), encoded(sheet.quantize(16)),
        encoded(wide), encoded(noise), encoded(sheet, "JPEG"), encoded(wide.convert("CMYK"), "JPEG"),
        encoded(sheet.convert("RGB"), "JPEG", progressive=True, quality=30),
        encoded(noise.resize((1100, 1000)), "JPEG", quality=90), encoded(sheet, "WEBP", method=0),
        encoded(sheet, "WEBP", lossless=True, method=0), encoded(noise, "WEBP", lossless=True, method=0),
        encoded(noise, "WEBP", quality=95, method=0), encoded(sheet.resize((1000, 1000)), "BMP"),
        encoded(sheet.resize((1000, 1000)), "PPM"), encoded(sheet.resize((5_000, 5_000)), "JPEG"),
        encoded(sheet, "GIF"), encoded(sheet, "TIFF", compression="tiff_lzw"), encoded(sheet, "AVIF", speed=10),
    )  # fmt: skip


def _drawing(side: int, grain=2) -> Image.Image:
    """A 4 with an open top, on paper with a little grain."""
    paper = Image.new("L", (side, side), 250)
    pen = ImageDraw.Draw(paper)
    lines = [(0.3, 0.15, 0.25, 0.55), (0.25, 0.55, 0.75, 0.55), (0.65, 0.2, 0.6, 0.9)]
    for line in lines:
        pen.line([side * share for share in line], 10, max(1, side // 12))
    rough = np.asarray(paper) + np.random.default_rng(side).normal(0, grain, (side, side))
    return Image.fromarray(rough.clip(0, 255).astype(np.uint8))


def _on_nothing(grey: Image.Image) -> Image.Image:
    picture = Image.new("RGBA", grey.size)
    picture.putalpha(grey.point(lambda value: 255 - value))
    return picture


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif
