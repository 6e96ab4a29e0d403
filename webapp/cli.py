"""The commands behind the Makefile: `python -m webapp setup | run | worker | password` and others."""

from __future__ import annotations

import argparse
import functools
import getpass
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from model.data.mnist import MnistMissing
from model.inference import weights
from model.inference.weights import WeightsError
from model.rank import GroupLost, is_rank_zero
from webapp import setting_values
from webapp.auth import Authenticator, NameRefused, PasswordRefused
from webapp.logs import TERMINAL
from webapp.server import listeners
from webapp.settings import ROOT, Settings, SettingsError
from webapp.setup import nginx, report
from webapp.setup.backup import last_backup
from webapp.setup.backup_commands import back_up_to, restore_from
from webapp.setup.backup_file import BackupError
from webapp.setup.install import set_up
from webapp.setup.purge import PurgeRefused, purge
from webapp.setup.supervisor import SETPRIV, exec_supervisor
from webapp.setup.to_postgresql import CopyRefused, copy
from webapp.storage.engine import WORK_SECONDS, Database, SchemaMisfit
from webapp.storage.installation_lock import InUse, database_file, exclusive, share
from webapp.storage.schema import FIRST_NAME, Run, Version


class Refused(Exception):
    """The command cannot be done; the message is the line to print."""


REFUSALS = (
    BackupError,
    CopyRefused,
    InUse,
    MnistMissing,
    NameRefused,
    PasswordRefused,
    PurgeRefused,
    Refused,
    SchemaMisfit,
    SettingsError,
    WeightsError,
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code, 2 with one line on standard error if the command cannot be done."""
    chosen = vars(_parser().parse_args(arguments))
    function = chosen.pop("function")
    _open_standard_streams()
    try:
        settings = Settings.read()
        # The others use the installation as it is; of these the first two replace it or take it elsewhere.
        if function not in (restore_from, copy_embedded, replay_version, print_settings, write_nginx):
            settings = share(settings, functools.partial(print, "inkling:", file=sys.stderr, flush=True))
        function(settings, **chosen)
    except REFUSALS as error:
        return _refuse(error)
    except (SQLAlchemyError, sqlite3.Error) as error:
        return _refuse(f"the database cannot be used: {str(error).splitlines()[0]}")
    except BrokenPipeError:  # nothing reads the output any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter would fail at its end
        return 2
    except OSError as error:  # such as a disk that is full or read-only
        path = error.filename2 or error.filename
        return _refuse(f"{path}: {error.strerror}" if path else error)
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m webapp", description="Serve Inkling.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: Callable[..., None], does: str, group=commands) -> argparse.ArgumentParser:
        command = group.add_parser(name, help=does, description=does)
        command.set_defaults(function=function)
        return command

    add("setup", set_up, "bring the installation up to date, without starting it")
    add("run", serve, "set up, then serve web and worker together")
    add("worker", work, "run the worker alone")
    add(
        "settings", print_settings, "print the settings in force and where each comes from, without secrets"
    ).add_argument("--document", action="store_true", help="print docs/settings.md instead")
    add("nginx", write_nginx, "write nginx's limits per client, as they are in the settings").add_argument(
        "folder", type=Path, metavar="FOLDER", help="such as /etc/nginx/inkling"
    )
    add("password", set_password, "set an administrator's password, asked for or from standard input").add_argument(
        "name", nargs="?", type=str.lower, default=FIRST_NAME, metavar="NAME", help="by default the first one"
    )
    does = "list, add or remove administrators"
    group = commands.add_parser("admin", help=does, description=does).add_subparsers(required=True, metavar="ACTION")
    add("list", list_administrators, "print their names", group)
    for command in (
        add("add", add_administrator, "add one, with a password asked for or from standard input", group),
        add("remove", remove_administrator, "remove one and end their sessions", group),
    ):
        command.add_argument("name", type=str.lower, metavar="NAME")
    for command in (
        add("backup", back_up_to, "write database and secret key to a new file, while Inkling runs"),
        add("restore", restore_from, "put a backup in the place of what is in DATA_DIR, which is kept beside it"),
    ):
        command.add_argument("file", type=Path, metavar="FILE")
    purging = add("purge", purge_old, "remove what is older than RETENTION_DAYS, as the worker does once a day")
    purging.add_argument("--before", type=_days, metavar="DAYS", help="older than so many days")
    purging.add_argument("--dry-run", action="store_true", help="say how much it is, and remove nothing")
    add("copy", copy_embedded, "copy the embedded installation in DATA_DIR into the PostgreSQL of DATABASE_URL")
    add("replay", replay_version, "train a version again, and compare it with what is stored").add_argument(
        "version_id", type=_version_number, metavar="VERSION", help="its name, such as v7"
    )
    return parser


def _refuse(reason: object) -> int:
    print(f"inkling: {reason}", file=sys.stderr)
    return 2


def serve(settings: Settings) -> None:
    """Set up, then run web and worker until a signal ends them."""
    if not shutil.which(SETPRIV):
        raise Refused(f"{SETPRIV} is missing; it comes with util-linux")
    # Bound before set-up and kept over every restart: a second start on the address is refused.
    with listeners.listen(settings) as listener:
        set_up(settings)
        if database_file(settings):
            print(last_backup(settings))
        address = settings.bind if settings.socket_path else f"http://{settings.bind}{settings.base_path}/"
        print(f"Inkling: {address}   (Ctrl-C ends it)", flush=True)
        os.environ.update(
            DATA_DIR=str(settings.data_dir),
            INKLING_BIN=str(Path(sys.executable).parent),
            INKLING_ROOT=str(ROOT),
        )
        if os.isatty(1):
            os.environ[TERMINAL] = "1"
        exec_supervisor(listener.fileno())


def work(settings: Settings) -> None:
    from webapp.worker import consumer

    consumer.main(settings)


def set_password(settings: Settings, name: str) -> None:
    with _installation(settings) as database:
        if sys.stdin.isatty():
            print(f"{name} of {database.place}")
        Authenticator(database).set_password(_ask_password(), name)
        print(f"The password of {name} is set in {database.place}; {name} is signed out everywhere.")


def list_administrators(settings: Settings) -> None:
    with _installation(settings) as database:
        print("\n".join(Authenticator(database).names()))


def add_administrator(settings: Settings, name: str) -> None:
    with _installation(settings) as database:
        Authenticator(database).add(name, _ask_password())
        print(f"{name} is an administrator of {database.place} now; the sign-in asks for a name from now on.")


def remove_administrator(settings: Settings, name: str) -> None:
    with _installation(settings) as database:
        Authenticator(database).remove(name)
        print(f"{name} is no administrator any more and is signed out; what {name} did stays in the audit.")


@contextmanager
def _installation(settings: Settings) -> Iterator[Database]:
    """Open the database of an installation that is set up; never makes one, which nobody would serve."""
    with closing(Database(settings.database_url)) as database:
        if not database.is_set_up():
            raise Refused(
                f"there is no installation in {database.place}: set DATA_DIR and DATABASE_URL as its servers have them "
                "(deploy/README.md has the command for the systemd units)"
            )
        database.require_fit()
        yield database


def _ask_password() -> str:
    password = getpass.getpass("New password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if sys.stdin.isatty() and getpass.getpass("Once more: ") != password:
        raise Refused("the two are not the same; nothing was changed")
    return password


def copy_embedded(settings: Settings) -> None:
    """Copy the SQLite database and the secret key into PostgreSQL; raises CopyRefused or Refused."""
    target = Database(settings.database_url, WORK_SECONDS)
    folder = settings.data_dir
    if not target.is_postgresql:
        raise Refused("DATABASE_URL must name the PostgreSQL database to copy into")
    if not (folder / "inkling.db").is_file():
        raise Refused(f"there is no embedded installation in {folder}")
    if not settings.secret_key and not (folder / "secret_key").is_file():
        raise Refused(f"SECRET_KEY is not set, and there is none in {folder}: without it no receipt would be found")
    embedded = Settings.read({"DATA_DIR": str(folder), "SECRET_KEY": settings.secret_key})
    with exclusive(embedded), closing(Database(embedded.database_url)) as source, closing(target):
        copy(source, target, embedded.secret_key, functools.partial(print, flush=True))
    print("All is copied, and the original is as it was. From now on start Inkling with this DATABASE_URL.")
    print(f"inkling.db* and secret_key in {folder} still hold every drawing and the key: remove them once all is well.")


def purge_old(settings: Settings, before: int | None, dry_run: bool) -> None:
    with _installation(settings) as database:
        purge(settings, database, before, dry_run)


def print_settings(settings: Settings, document: bool) -> None:
    """Print the settings in force, or docs/settings.md."""
    if document:
        print(report.document(), end="")
        return
    rows = list(report.in_force(settings))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for variable, value, origin in rows:
        print(f"{variable:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
    for line in report.misspelt():
        print(f"Warning: {line}")


def write_nginx(settings: Settings, folder: Path) -> None:
    nginx.write_limits(settings, folder)
    print(f"{', '.join(nginx.limits(settings))} are written to {folder}. Now: nginx -t && systemctl reload nginx")


def replay_version(settings: Settings, version_id: int) -> None:
    """Train a version again from its stored card, parent and corrections; raises Refused if the result differs."""
    from model.data import splits
    from model.progress import progress_bar
    from model.training.reproduce import ReproductionError, differences, reproduce
    from webapp.worker.training_run import chosen_corrections

    with Database(settings.database_url).reading() as session:
        version = session.get(Version, version_id)
        if version is None:
            raise Refused(f"there is no version v{version_id}")
        run = session.get(Run, version.run_id) if version.run_id else None
        _refuse_removed(version, session.get(Version, run.parent_id or 0) if run else None)
        parent = session.get_one(Version, run.parent_id).weights if run and run.parent_id else None
        corrections = chosen_corrections(session, run.id) if run else None
        data = version.weights
    for difference in differences(weights.read_card(data)) if is_rank_zero() else ():
        print(f"note: {difference}")
    command = sys.executable, "-m", "webapp", "replay", version.name
    try:
        with progress_bar() as move:
            found = reproduce(data, splits.load(settings.mnist_dir), parent, corrections, move, command)
    except (ReproductionError, GroupLost) as error:
        raise Refused(f"{version.name} cannot be made again: {error}") from error
    if found is None:
        return
    if not found.same:
        raise Refused(f"{version.name} came out different: SHA-256 {found.made}, and {found.expected} is stored")
    print(f"{version.name} came out the same: SHA-256 {found.made}")


def _refuse_removed(version: Version, parent: Version | None) -> None:
    if version.removed_at is not None:
        raise Refused(f"{version.name} was removed")
    if parent is not None and parent.removed_at is not None:
        raise Refused(f"{version.name} cannot be made again: {parent.name}, which it was trained from, was removed")


def _version_number(text: str) -> int:
    digits = text.removeprefix("v")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is no version's name, such as v7")
    return int(digits)


def _days(text: str) -> int:
    try:
        return setting_values.number(1, 99_999)(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _open_standard_streams() -> None:
    """Open closed standard streams, so that no other file gets their descriptors."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
