"""Makes the pictures in README and docs from a running Inkling: PYTHONPATH=. python tests/support/screenshot.py URL

With the administrator's password after the URL, those of the review and of the version that answers too: what waits for
review there, and the evidence for the version, should be worth a picture.
"""

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from model.data import synthetic
from tests.support.browser import chromium
from tests.support.pictures import grainy, number, photo, save
from tests.support.strokes import DIGITS, NO_DIGITS, OTHER_HANDS, draw
from webapp.settings import ROOT

DOCS = ROOT / "docs"
WIDTH, HEIGHT = 1280, 900
BETWEEN_4_AND_9 = [
    [(0.6, 0.18), (0.42, 0.3), (0.34, 0.48), (0.5, 0.54), (0.64, 0.5)],
    [(0.66, 0.16), (0.64, 0.45), (0.61, 0.84)],
]
VERDICTS = (
    (OTHER_HANDS["a slashed zero"][1], "It is a 0"),
    (BETWEEN_4_AND_9, " or a "),
    (NO_DIGITS["letter A"], "That does not look like a digit"),
    (NO_DIGITS["two digits"], "It is 37"),
)
DRAWN_COLUMNS, DRAWN_ROWS = 30, 3


def main(url: str, password: str | None = None) -> None:
    drawings().save(DOCS / "drawn.png", optimize=True)
    with tempfile.TemporaryDirectory() as profile:
        driver = chromium(profile)
        driver.set_window_size(WIDTH, HEIGHT)
        try:
            read(driver, url, DIGITS[5], "It is a 5")
            driver.save_screenshot(str(DOCS / "draw.png"))
            read_file(driver, url, save(squared_paper(), Path(profile, "photo.jpg"), quality=90), "It is 2025")
            shot = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
            shot.quantize(128).save(DOCS / "photo.png", optimize=True)  # its grain makes the file large
            driver.get(f"{url.rstrip('/')}/gallery")
            # the worker computes the predictions soon after its first start
            WebDriverWait(driver, 60).until(lambda d: d.find_elements(By.CSS_SELECTOR, "svg.ink"))
            driver.save_screenshot(str(DOCS / "gallery.png"))
            verdicts(driver, url).save(DOCS / "verdicts.png", optimize=True)
            if password:
                administration(driver, url.rstrip("/"), password)
        finally:
            driver.quit()


def administration(driver, url, password) -> None:
    driver.get(f"{url}/admin")
    driver.find_element(By.ID, "password").send_keys(password)
    driver.find_element(By.CSS_SELECTOR, "main form button").click()
    WebDriverWait(driver, 10).until(lambda d: d.find_elements(By.ID, "champion"))
    version = driver.find_element(By.ID, "champion").get_attribute("data-version")
    for name, path in (("corrections", "/admin/corrections"), ("evidence", f"/admin/versions/{version}")):
        driver.get(url + path)
        driver.save_screenshot(str(DOCS / f"{name}.png"))


def read(driver, url, strokes, words) -> None:
    driver.get(url)
    driver.execute_script("sessionStorage.clear()")  # the drawing before
    driver.refresh()
    draw(driver, strokes)
    WebDriverWait(driver, 10).until(lambda d: words in d.find_element(By.TAG_NAME, "main").text)


def read_file(driver, url, path, words) -> None:
    driver.get(url)
    driver.find_element(By.ID, "picture-file").send_keys(path)
    WebDriverWait(driver, 10).until(lambda d: words in d.find_element(By.TAG_NAME, "main").text)


def squared_paper() -> Image.Image:
    """A number on squared paper, a little turned and darker towards one edge, as a phone takes it."""
    ink = photo(number("2025", 0.3, 0.38, 0.1, 0.8), (1600, 1200))
    squares = Image.new("RGB", ink.size, "white")
    pen = ImageDraw.Draw(squares)
    for place in range(40, 1600, 80):
        pen.line([(place, 0), (place, 1200)], (196, 205, 222), 3)
        pen.line([(0, place), (1600, place)], (196, 205, 222), 3)
    page = ImageChops.multiply(ink, squares).rotate(-3, Image.Resampling.BICUBIC).crop((80, 100, 1520, 1100))
    shade = Image.linear_gradient("L").rotate(90).point([160 + 95 * value // 255 for value in range(256)])
    return grainy(ImageChops.multiply(page, shade.resize(page.size).convert("RGB")))


def verdicts(driver, url) -> Image.Image:
    """Four answers of the page, two by two, at half their size."""
    answers = []
    for strokes, words in VERDICTS:
        read(driver, url, strokes, words)
        answers.append(Image.open(io.BytesIO(driver.find_element(By.TAG_NAME, "main").screenshot_as_png)))
    width, height = answers[0].size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for i, answer in enumerate(answers):
        sheet.paste(answer, (i % 2 * width, i // 2 * height))
    return sheet.reduce(2)


def drawings() -> Image.Image:
    """Digits that the project draws, in the upper half, and drawings of no digit."""
    count = DRAWN_COLUMNS * DRAWN_ROWS
    images = 255 - np.concatenate((synthetic.digits(count, 1)[0], synthetic.others(count, 1)[0]))
    rows = images.reshape(2 * DRAWN_ROWS, DRAWN_COLUMNS, 28, 28).transpose(0, 2, 1, 3)
    return Image.fromarray(rows.reshape(2 * DRAWN_ROWS * 28, DRAWN_COLUMNS * 28))


if __name__ == "__main__":
    main(*sys.argv[1:])
