"""The commands behind the Makefile: `python -m webapp setup | run | worker | password | copy | replay`."""

from __future__ import annotations

import argparse
import fcntl
import functools
import getpass
import os
import pwd
import socket
import sys
from contextlib import closing
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from model import mnist, weights
from model.mnist import MnistMissing
from model.processes import GroupLost, leads
from model.weights import WeightsError
from webapp.copying import CopyRefused, copy
from webapp.database import WORK_SECONDS, Database, Run, Version
from webapp.door import Door, PasswordRefused
from webapp.logs import TERMINAL
from webapp.settings import ROOT, Settings, SettingsError
from webapp.setup import set_up


class Refused(Exception):
    """What was asked for cannot be done; the message is the line to print."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; 2 with one clear line where it cannot."""
    parser = argparse.ArgumentParser(prog="python -m webapp", description="Serve Inkling.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, does, function in (
        ("setup", "bring the installation up to date, without starting it", set_up),
        ("run", "set up, then serve web and worker together", serve),
        ("worker", "run the worker alone", work),
        ("password", "set the administrator's password, asked for or from standard input", set_password),
        ("copy", "copy the embedded installation in DATA_DIR into the PostgreSQL of DATABASE_URL", copy_embedded),
    ):
        commands.add_parser(name, help=does, description=does).set_defaults(function=function)
    does = "train a version again, and compare it with what is stored"
    again = commands.add_parser("replay", help=does, description=does)
    again.add_argument("version", type=_version_number, metavar="VERSION", help="its name, such as v7")
    again.set_defaults(function=lambda settings: replay_version(settings, args.version))
    args = parser.parse_args(arguments)
    try:
        args.function(Settings.read())
    except (SettingsError, PasswordRefused, MnistMissing, WeightsError, CopyRefused, Refused) as error:
        print(f"inkling: {error}", file=sys.stderr)
        return 2
    except SQLAlchemyError as error:
        print(f"inkling: the database cannot be used: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def serve(settings: Settings) -> None:
    """Sets up and becomes the supervisor of web and worker."""
    _check_port(settings)
    set_up(settings)
    print(f"Inkling: http://{settings.host}:{settings.port}/   (Ctrl-C ends it)", flush=True)
    os.environ.update(
        DATA_DIR=str(settings.data_dir),
        INKLING_BIN=str(Path(sys.executable).parent),
        INKLING_ROOT=str(ROOT),
    )
    if sys.stdout.isatty():
        os.environ[TERMINAL] = "1"
    os.chdir(ROOT)
    # The supervisor opens the output again for each process; in a file they would write over each other.
    fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_APPEND)
    # Replaced by the supervisor, so that a signal to this process ends everything in order. Naming the user says that
    # running as root, where one is root, is meant.
    user = pwd.getpwuid(os.getuid()).pw_name
    supervisor = str(Path(sys.executable).with_name("supervisord"))
    os.execv(supervisor, [supervisor, "--configuration", str(ROOT / "supervisord.conf"), "--user", user])


def work(settings: Settings) -> None:
    from webapp import worker

    worker.main(settings)


def set_password(settings: Settings) -> None:
    database = Database(settings.database_url)
    database.upgrade()
    password = getpass.getpass("New password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if sys.stdin.isatty() and getpass.getpass("Once more: ") != password:
        raise Refused("the two are not the same; nothing was changed")
    Door(database).set_password(password)
    print("The administrator's password is set; everybody is signed out.")


def copy_embedded(settings: Settings) -> None:
    """Copies what is in SQLite, with the secret key; refuses a target in use."""
    target = Database(settings.database_url, WORK_SECONDS)
    folder = settings.data_dir
    if not target.is_postgresql:
        raise Refused("DATABASE_URL must name the PostgreSQL database to copy into")
    if not (folder / "inkling.db").is_file():
        raise Refused(f"there is no embedded installation in {folder}")
    if not settings.secret_key and not (folder / "secret_key").is_file():
        raise Refused(f"SECRET_KEY is not set, and there is none in {folder}: without it no receipt would be found")
    embedded = Settings.read({"DATA_DIR": str(folder), "SECRET_KEY": settings.secret_key})
    with closing(Database(embedded.database_url)) as source, closing(target):
        copy(source, target, embedded.secret_key, functools.partial(print, flush=True))
    print("All is copied, and the original is as it was. From now on start Inkling with this DATABASE_URL.")


def replay_version(settings: Settings, version_id: int) -> None:
    """Makes a version again from its card, its parent and its corrections, as they are stored."""
    from model.replay import ReplayError, differences, replay
    from model.terminal import training_bar
    from webapp.trainer import chosen_corrections

    with Database(settings.database_url).reading() as session:
        version = session.get(Version, version_id)
        if version is None:
            raise Refused(f"there is no version v{version_id}")
        run = session.get(Run, version.run_id) if version.run_id else None
        parent = session.get(Version, run.parent_id).weights if run and run.parent_id else None
        corrections = chosen_corrections(session, run.id) if run else None
        data = version.weights
    for difference in differences(weights.read_card(data)) if leads() else ():
        print(f"note: {difference}")
    command = sys.executable, "-m", "webapp", "replay", version.name
    try:
        with training_bar() as follow:
            found = replay(data, mnist.load(settings.mnist_dir), parent, corrections, follow, command)
    except (ReplayError, GroupLost) as error:
        raise Refused(f"{version.name} cannot be made again: {error}") from error
    if found is None:
        return
    if not found.same:
        raise Refused(f"{version.name} came out different: SHA-256 {found.made}, and {found.expected} is stored")
    print(f"{version.name} came out the same: SHA-256 {found.made}")


def _version_number(text: str) -> int:
    digits = text.removeprefix("v")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is no version's name, such as v7")
    return int(digits)


def _check_port(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise Refused(f"{settings.host}:{settings.port} cannot be used ({error.strerror}); set PORT") from error


if __name__ == "__main__":
    sys.exit(main())
