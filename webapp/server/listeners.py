"""Listening sockets: their addresses and options, and how many connections wait to be accepted."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

from webapp.settings import Settings

BACKLOG = 2048  # of connections that wait; gunicorn's own default
DEFER_ACCEPT_SECONDS = 5
# Large enough for most answers, so that a slow reader does not hold up the worker.
SEND_BUFFER_BYTES = 512 << 10


class AddressError(OSError):
    """The web server cannot listen there; the message names the setting and the reason."""


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens on HOST and PORT; raises AddressError."""
    listener = socket.socket(_family(settings))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if settings.socket_path:
            remove_stale(settings.socket_path)
            listener.bind(str(settings.socket_path))
            open_to_all(settings.socket_path)
        else:
            listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except (OSError, UnicodeError) as error:
        listener.close()
        raise _address_error(settings, error) from error
    return listener


def check(settings: Settings) -> None:
    """Raise AddressError if this machine has no such address, or if the Unix socket cannot be made or is in use."""
    try:
        if settings.socket_path:
            remove_stale(settings.socket_path)
            if not os.access(settings.socket_path.parent, os.W_OK | os.X_OK):
                raise PermissionError(0, f"{settings.socket_path.parent} is not a folder that can be written to")
        else:
            with socket.socket(_family(settings)) as trial:
                trial.bind((settings.host, 0))  # not the port: gunicorn waits for the one before it to free that
    except (OSError, UnicodeError) as error:
        raise _address_error(settings, error) from error


def remove_stale(path: Path) -> None:
    """Remove a Unix socket that nobody listens on any more; raises OSError if somebody does, or if it is no socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(0, "there is a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(0, "another server listens there")


def open_to_all(path: Path) -> None:
    """Let every user connect to a Unix socket who may enter its folder, as to a port: the proxy is another user."""
    path.chmod(0o666)


def peer(address: Any) -> Any:
    """Return the address of an accepted connection: (host, port), IPv4 also if it came to an IPv6 socket.

    That of a Unix socket's client is empty.
    """
    if not isinstance(address, tuple):
        return ""
    host, port = address[:2]
    return (host[7:] if host.startswith("::ffff:") and "." in host else host), port


def _family(settings: Settings) -> socket.AddressFamily:
    if settings.socket_path:
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in settings.host else socket.AF_INET


def _address_error(settings: Settings, error: OSError | UnicodeError) -> AddressError:
    reason = getattr(error, "strerror", None) or error
    if settings.socket_path:
        return AddressError(f"HOST {settings.host} cannot be used: {reason}")
    if isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES):
        return AddressError(f"{settings.bind} cannot be used ({reason}); set PORT")
    return AddressError(f"HOST {settings.host} is no address of this machine ({reason})")


def configure(listeners: list) -> None:
    """Set socket options, which accepted connections inherit, on gunicorn's `listeners`."""
    for listener in listeners:
        if listener.sock.family != socket.AF_UNIX and hasattr(socket, "TCP_DEFER_ACCEPT"):
            # Linux: the kernel keeps back connections that have sent nothing.
            listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_ACCEPT_SECONDS)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def backlog(listener: socket.socket) -> int:
    """Return how many connections wait to be accepted; 0 where the system does not say (Linux does, for TCP)."""
    try:
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except (AttributeError, OSError):
        return 0
    return int.from_bytes(info[24:28], sys.byteorder)  # tcpi_unacked: of a listening socket, the accept queue's length
