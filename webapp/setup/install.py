"""Set-up before the processes start: static files, schema, shipped version, administrator's password and, if possible,
MNIST."""

from __future__ import annotations

import secrets
from contextlib import suppress

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from model.data import download, mnist
from model.inference import weights
from model.inference.classifier import SHIPPED, check_weights
from model.inference.weights import WeightsError
from webapp import private_files
from webapp.auth import Authenticator
from webapp.middleware import assets
from webapp.presentation.wording import worded
from webapp.settings import Settings
from webapp.setup.report import misspelt
from webapp.storage.engine import Database, lock_table
from webapp.storage.schema import Installation, Promotion, Version, champion_of, coded
from webapp.storage.secret_key import NotSetUp, create_secret_key, with_secret_key
from webapp.training.task_queue import make_file, make_tables
from webapp.versions.promotions import SET_UP, record_promotion


def set_up(settings: Settings, say=print) -> None:
    """Create an installation or bring an older one up to date; `say` gets a line for each message.

    Raises PasswordRefused if ADMIN_PASSWORD cannot be used, WeightsError if no version can be used, SchemaMisfit, and
    SettingsError for a stored secret key that no web server would take.
    """
    with suppress(NotSetUp):
        with_secret_key(settings)  # before anything is changed: the servers of the release before go on with theirs
    for line in misspelt():
        say(f"Warning: {line}")
    settings.data_dir.mkdir(0o700, parents=True, exist_ok=True)
    database = Database(settings.database_url)
    private_files.restrict(settings.data_dir, database.files, say)
    try:
        assets.set_up(settings.data_dir)
    except OSError as error:
        say(f"Warning: static files are sent uncompressed, as no copies of them can be made: {error.strerror}")
    if not database.upgrade():
        say("The database is of a newer release, which this one can work with; it is left as it is")
    with database.writing() as session:
        lock_table(session, Installation)
        make_tables(session)
        create_secret_key(settings, session)
    make_file(with_secret_key(settings), database, say)
    install_shipped(database, say)
    set_up_password(settings, Authenticator(database), say)
    try:
        download.fetch(settings.mnist_dir, say)
    except mnist.MnistMissing as error:
        say(f"{error}.\nDrawing works without it; the gallery and retraining wait for `make data` to fetch it.")
    database.close()


def install_shipped(database: Database, say=print) -> None:
    """Store the shipped weights as a version, once, and ensure that a usable version is in service.

    They are promoted if no usable version is in service, or in place of those that an earlier release shipped. A
    version that was trained here stays in service: no measurement shows which is better for its users. If the shipped
    file is damaged, the installation keeps its own versions. Raises WeightsError if none can be used.
    """
    data, fault = _shipped()
    with database.writing() as session:
        lock_table(session, Promotion)  # of several concurrent set-ups only the first installs it
        version, is_new = _find_or_add(session, data) if data else (None, False)
        champion = champion_of(session)
        if champion is None:
            why = coded("shipped")
        elif reason := _fault(champion.weights):
            why = coded("champion_unusable", version=champion.id, detail=reason)
            version = version or _last_usable(session)
        elif is_new and champion.source == "shipped":
            why = coded("shipped")
        else:
            version, why = champion, ""
        if version is None:
            raise WeightsError(f"no version can be put into service: {fault}")
        promoted = record_promotion(session, version.id, by=SET_UP, why=why)
    if fault:
        say(f"Warning: {fault}; {version.name} answers")
    elif promoted and champion:
        say(f"{version.name} is in service now: {worded(why)}")


def _shipped() -> tuple[bytes | None, str | None]:
    """Return the weights of this release, or the reason why they cannot be used."""
    try:
        data = SHIPPED.read_bytes()
    except OSError as error:
        return None, f"{SHIPPED} cannot be read: {error.strerror}"
    fault = _fault(data)
    return (None, f"{SHIPPED}: {fault}") if fault else (data, None)


def _fault(data: bytes) -> str | None:
    """Return why weights cannot be used; None if they can."""
    try:
        check_weights(data)
    except WeightsError as error:
        return str(error)
    return None


def _find_or_add(session: Session, data: bytes) -> tuple[Version, bool]:
    """Return the version with these weights, and whether it is new. A row with damaged weights does not count."""
    identical = Version.sha256 == weights.digest(data), Version.weights == data
    version = session.scalar(select(Version).where(*identical))
    if version is not None:
        return version, False
    version = Version.of(data, weights.read_card(data), "shipped")
    session.add(version)
    session.flush()
    return version, True


def _last_usable(session: Session) -> Version | None:
    """Return the usable version that was promoted last; None without any."""
    latest = select(Promotion.version_id).group_by(Promotion.version_id).order_by(func.max(Promotion.id).desc())
    versions = (session.get_one(Version, number) for number in session.scalars(latest).all())
    return next((version for version in versions if _fault(version.weights) is None), None)


def set_up_password(settings: Settings, authenticator: Authenticator, say) -> None:
    if settings.admin_password:
        authenticator.keep_password(settings.admin_password)
        say("Administrator: sign in with the password in ADMIN_PASSWORD")
    elif not authenticator.has_password() and authenticator.set_first_password(password := secrets.token_urlsafe(12)):
        say(f"Administrator: sign in with the password {password}\n(shown this once; `make password` sets another)")
    else:
        say("Administrator: sign in with your password; `make password` sets another")
