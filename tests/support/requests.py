"""How the tests of the web side ask, and what every error must look like."""

import base64
import io
import re

from PIL import Image, ImageDraw

from webapp.settings import ROOT

CODE = re.compile(r"[a-z][a-z0-9_]*")
# What a traceback, a path or an object's repr would show.
INTERNALS = re.compile(
    rf'Traceback|File "|\.py\b|{re.escape(str(ROOT))}|/home|/usr|site-packages| object at 0x|sqlalchemy', re.I
)


def assert_error(response, status, code):
    """The one shape of a JSON error, with this status and code; returns its sentence."""
    assert response.status_code == status, response.get_data(as_text=True)[:500]
    assert response.mimetype == "application/json"
    error = response.get_json()["error"]
    assert error["code"] == code and CODE.fullmatch(code)
    message = error["message"]
    assert isinstance(message, str) and message[:1].isupper() and message.endswith("."), message
    assert "\n" not in message and not INTERNALS.search(response.get_data(as_text=True)), message
    assert response.cache_control.no_store
    return message


def data_url(data: bytes, image_type="png") -> str:
    return f"data:image/{image_type};base64," + base64.b64encode(data).decode()


def encoded(image: Image.Image, image_format="PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, image_format, **options)
    return out.getvalue()


def drawn(mode="L", side=112, paper=255, ink=0) -> Image.Image:
    """A plain 1, as wide a stroke as the page's pen makes."""
    image = Image.new(mode, (side, side), paper)
    ImageDraw.Draw(image).line([(side * 0.52, side * 0.15), (side * 0.48, side * 0.85)], ink, side // 12)
    return image


def blank(side=112) -> Image.Image:
    return Image.new("L", (side, side), 255)


ONE = {"image": data_url(encoded(drawn()))}
