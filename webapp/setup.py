"""What is put in order before the processes start: files to serve, schema, shipped version, administrator and, if
possible, MNIST."""

from __future__ import annotations

import secrets

from sqlalchemy import select

from model import mnist, weights
from model.recognizer import SHIPPED
from webapp import private, static
from webapp.database import Database, Installation, Promotion, Version, alone, champion_id
from webapp.door import Door
from webapp.installation import make_secret_key
from webapp.promotions import record_promotion
from webapp.queue import make_file, make_tables
from webapp.settings import Settings


def set_up(settings: Settings, say=print) -> None:
    """Brings an installation up to date, however old or new it is; `say` gets one line for each thing worth knowing.

    Raises PasswordRefused where ADMIN_PASSWORD cannot be used, and WeightsError where the shipped weights are damaged.
    """
    settings.data_dir.mkdir(0o700, parents=True, exist_ok=True)
    database = Database(settings.database_url)
    private.close(settings.data_dir, database.files, say)
    static.compress(settings.data_dir)
    database.upgrade()
    with database.writing() as session:
        alone(session, Installation)
        make_tables(session)
        if database.is_postgresql:
            make_secret_key(session)
    make_file(settings, database, say)
    install_shipped(database)
    set_up_password(settings, Door(database), say)
    try:
        mnist.fetch(settings.mnist_dir, say)
    except mnist.MnistMissing as error:
        say(f"{error}.\nDrawing works without it; the gallery and retraining wait for `make data` to fetch it.")
    database.close()


def install_shipped(database: Database) -> None:
    """Makes the shipped weights a version, once.

    They go into service where nothing is, or in place of those that an earlier release shipped. A version that was made
    here stays: nothing has been measured that would say which is better for its users.
    """
    data = SHIPPED.read_bytes()
    digest = weights.digest(data)
    with database.writing() as session:
        alone(session, Promotion)  # of several that set up at once the first one installs it
        if session.scalar(select(Version.id).where(Version.sha256 == digest)):
            return
        card = weights.read_card(data)
        version = Version(
            source="shipped",
            preset=card.preset,
            sha256=digest,
            weights=data,
            card=card.as_dict(),
            validation_accuracy=card.validation_accuracy,
            test_accuracy=card.test_accuracy,
        )
        session.add(version)
        session.flush()
        champion = session.get(Version, champion_id(session) or 0)
        if champion is None or champion.source == "shipped":
            record_promotion(session, version.id, by="set-up", why="it comes with this release")


def set_up_password(settings: Settings, door: Door, say) -> None:
    if settings.admin_password:
        door.set_password(settings.admin_password)
        say("Administrator: sign in with the password in ADMIN_PASSWORD")
    elif not door.has_password() and door.set_first_password(password := secrets.token_urlsafe(12)):
        say(f"Administrator: sign in with the password {password}\n(shown this once; `make password` sets another)")
    else:
        say("Administrator: sign in with your password; `make password` sets another")
