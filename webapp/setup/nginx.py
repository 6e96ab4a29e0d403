"""The part of nginx's configuration that depends on the settings: the limits of one client's address."""

from __future__ import annotations

from pathlib import Path

from model.files import atomic_write
from webapp.settings import Settings

ORIGIN = "# Written by `python -m webapp nginx FOLDER` from the settings; deploy/README.md says which to choose.\n"
HTTP = """\
limit_req_zone $inkling_reader zone=inkling_readings:10m rate={settings.readings_per_second}r/s;
limit_req_zone $inkling_corrector zone=inkling_corrections:10m rate={settings.corrections_per_second}r/s;
limit_conn_zone $binary_remote_addr zone=inkling_connections:10m;
"""
SERVER = """\
limit_req zone=inkling_readings burst={readings} nodelay;
limit_req zone=inkling_corrections burst={corrections} nodelay;
limit_conn inkling_connections {settings.connections_per_address};
"""
# What may come at once, in seconds' worth: a class that begins together, somebody who corrects a page of digits.
READINGS_BURST_SECONDS = 2
CORRECTIONS_BURST_SECONDS = 6


def limits(settings: Settings) -> dict[str, str]:
    """Return the files by their names in nginx's folder of Inkling."""
    readings = settings.readings_per_second * READINGS_BURST_SECONDS
    corrections = settings.corrections_per_second * CORRECTIONS_BURST_SECONDS
    return {
        "limits_http.conf": ORIGIN + HTTP.format(settings=settings),
        "limits_server.conf": ORIGIN + SERVER.format(settings=settings, readings=readings, corrections=corrections),
    }


def write_limits(settings: Settings, folder: Path) -> None:
    """Write the files into nginx's folder of Inkling; raises OSError."""
    for name, text in limits(settings).items():
        atomic_write(folder / name, text.encode())
