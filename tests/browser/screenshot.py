"""Makes the README's pictures from a running Inkling: `PYTHONPATH=. python tests/browser/screenshot.py URL`."""

import sys
import tempfile

from conftest import chromium
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from strokes import DIGITS, draw

from webapp.settings import ROOT

SIZES = {"draw": (1280, 900), "gallery": (1280, 900)}


def main(url: str) -> None:
    with tempfile.TemporaryDirectory() as profile:
        driver = chromium(profile)
        try:
            for name, (width, height) in SIZES.items():
                driver.set_window_size(width, height)
                driver.get(url if name == "draw" else f"{url.rstrip('/')}/gallery")
                if name == "draw":
                    draw(driver, DIGITS[5])
                    WebDriverWait(driver, 10).until(lambda d: d.find_element(By.ID, "best").text == "5")
                driver.save_screenshot(str(ROOT / "docs" / f"{name}.png"))
        finally:
            driver.quit()


if __name__ == "__main__":
    main(*sys.argv[1:])
