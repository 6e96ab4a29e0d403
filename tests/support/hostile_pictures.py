"""Files of up to 10 MB that would take much time or memory, or the process down, if they were decoded as they ask."""

import struct

from PIL import Image

from tests.support import heic
from tests.support.requests import drawn, encoded


def gif_of_many_parts():
    """A comment of half a million pieces before the picture."""
    data = encoded(drawn(), "GIF")
    palette = 13 + (3 << (data[10] & 7) + 1)
    return data[:palette] + b"!\xfe" + b"\x01a" * 500_000 + b"\0" + data[palette:]


def png_of_many_parts():
    data = encoded(drawn())
    return data[:33] + (struct.pack(">I", 0) + b"teSt" + struct.pack(">I", 0x7E5CDC3D)) * 300_000 + data[33:]


def jpeg_with_padding():
    data = encoded(drawn(), "JPEG")
    return data[:2] + b"\xff" * 5_000_000 + data[2:]


def tiff_of_many_tags():
    """Each of 60,000 tags says that its data are the whole of the file."""
    entries = b"".join(struct.pack("<HHII", tag, 7, 2_000_000, 8) for tag in range(1_000, 61_000))
    return b"II*\0" + struct.pack("<IH", 8, 60_000) + entries + bytes(2_000_000)


def tiff_of_many_pages():
    page = struct.pack("<H", 0)
    pages = b"".join(page + struct.pack("<I", 8 + 6 * (number + 1)) for number in range(500_000))
    return b"II*\0" + struct.pack("<I", 8) + pages


def tiff_of_one_part_many_times():
    """Each of 16,000 rows is the same 2 MB of LZW."""
    tags = [(256, 4, 1, 1_500), (257, 4, 1, 16_000), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1),
            (278, 4, 1, 1), (273, 4, 16_000, 200), (279, 4, 16_000, 64_200)]  # fmt: skip
    tags = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    head = (b"II*\0" + struct.pack("<IH", 8, 9) + tags + bytes(4)).ljust(200, b"\0")
    data = struct.pack("<16000I", *[128_200] * 16_000) + struct.pack("<16000I", *[2_000_000] * 16_000)
    return head + data + b"\x78\x01" + b"\0\0\0\xff\xff" * 400_000


def with_other_size(data, box=b"ispe"):
    """A HEIC that says it has 4,000 x 4,000 pixels, which its stream has not."""
    place = data.index(box) + 8
    return data[:place] + struct.pack(">II", 4_000, 4_000) + data[place + 8 :]


def large_webp_of_noise():
    data = encoded(Image.new("L", (2_500, 2_000), 200), "WEBP", lossless=True, method=0)
    return data[:26] + b"\xa5" * (len(data) - 26)


HOSTILE = {
    "a WEBP of many pixels that is damaged": large_webp_of_noise,
    "a GIF of 500,000 parts": gif_of_many_parts,
    "a PNG of 300,000 parts": png_of_many_parts,
    "a JPEG with 5 MB of padding": jpeg_with_padding,
    "a TIFF of 60,000 tags": tiff_of_many_tags,
    "a TIFF of 500,000 pages": tiff_of_many_pages,
    "a TIFF of one part many times": tiff_of_one_part_many_times,
    "a HEIC of another size than its stream": lambda: with_other_size(heic.SEVEN),
    "a HEIC that makes its codec write beyond its memory": lambda: heic.SEVEN[:196] + b"\0\2" + heic.SEVEN[198:],
}
