"""The administrators' passwords and sessions, and the limits of attempts at password and token."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Sequence

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.orm import Session

from webapp.exceptions import AppError
from webapp.storage.disk_reserve import write_using_reserve
from webapp.storage.engine import Database, insert_if_absent, lock_table
from webapp.storage.schema import FIRST_NAME, Administrator, AdminSession, NamedAdministrator, SignInAttempt
from webapp.storage.timestamps import seconds_until_below, within

# Argon2id with 19 MiB, two passes, one lane: OWASP's Password Storage Cheat Sheet.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 1024

# Of an administrator. Capital letters are typed in either case.
NAME = re.compile("[a-z0-9][a-z0-9._@+-]{0,63}", re.ASCII)
# What the audit calls those who are no administrator.
NOT_NAMES = ("run", "script", "set-up", "token")

# Limits for each secret, password and token. They are counted apart, so that a script with an old token does not lock
# out the administrator.
ATTEMPTS_PER_ADDRESS = 5
ATTEMPTS_IN_ALL = 50
ATTEMPT_WINDOW_SECONDS = 5 * 60

SESSION_IDLE_SECONDS = 8 * 3600
SESSION_SECONDS = 7 * 24 * 3600
SEEN_STEP_SECONDS = 60


class NotSignedIn(AppError):
    """The request has neither a session nor the token."""

    status, code = 401, "not_signed_in"
    message = "Please sign in as administrator first."


class WrongPassword(Exception):
    """There is no administrator with this name and password."""


class TooManyAttempts(AppError):
    """Too many recent attempts at the password or the token; the next one is allowed in `retry_after` seconds."""

    status, code = 429, "too_many_attempts"


class PasswordRefused(ValueError):
    """The password may not be used; the message says why."""


class NameRefused(ValueError):
    """There is no administrator with this name, or there cannot be; the message says why."""


class Authenticator:
    """Check passwords and sessions. All state is in the database, so that all processes share it."""

    def __init__(self, database: Database):
        self._database = database

    def has_password(self) -> bool:
        with self._database.reading() as session:
            return _find(session, FIRST_NAME) is not None

    def names(self) -> Sequence[str]:
        """Return the names of all administrators, the first one's first."""
        with self._database.reading() as session:
            return FIRST_NAME, *session.scalars(select(NamedAdministrator.name).order_by(NamedAdministrator.name))

    def add(self, name: str, password: str) -> None:
        """Add an administrator. Raises NameRefused or PasswordRefused."""
        if not NAME.fullmatch(name) or name in NOT_NAMES:
            raise NameRefused(
                "A name has 1 to 64 small letters, digits, and . _ @ + - after the first; "
                f"{', '.join(NOT_NAMES)} mean something else in the audit."
            )
        hashed = _hash(password)

        def store(session: Session) -> None:
            lock_table(session, Administrator)
            if name == FIRST_NAME or _find(session, name):
                raise NameRefused(f"There is an administrator {name} already.")
            session.add(NamedAdministrator(name=name, password_hash=hashed))

        write_using_reserve(self._database, store)

    def remove(self, name: str) -> None:
        """Remove an administrator and end their sessions. Raises NameRefused, also for the first one."""
        if name == FIRST_NAME:
            raise NameRefused(f"{FIRST_NAME} is the first administrator, who stays; `make password` sets the password.")

        def do(session: Session) -> None:
            lock_table(session, Administrator)
            session.delete(_get(session, name))
            _end_sessions(session, name)

        write_using_reserve(self._database, do)

    def set_password(self, password: str, name: str = FIRST_NAME) -> None:
        """Set a password, end that administrator's sessions and delete the counted attempts.

        Raises PasswordRefused, or NameRefused if there is no such administrator; the first one is made.
        """
        hashed = _hash(password)

        def store(session: Session) -> None:
            lock_table(session, Administrator)
            if name == FIRST_NAME:
                session.merge(Administrator(id=1, password_hash=hashed))
            else:
                _get(session, name).password_hash = hashed
            _end_sessions(session, name)
            session.execute(delete(SignInAttempt))

        write_using_reserve(self._database, store)

    def keep_password(self, password: str) -> None:
        """Set the first one's password if it differs: a restart with the same ADMIN_PASSWORD ends no session."""
        with self._database.reading() as session:
            first = _find(session, FIRST_NAME)
        if first is None or not _is_right(first.password_hash, password):
            self.set_password(password)

    def set_first_password(self, password: str) -> bool:
        """Set the first one's password if there is none yet; return whether it was set."""
        with self._database.writing() as session:
            return insert_if_absent(session, Administrator, id=1, password_hash=HASHER.hash(password))

    def sign_in(self, password: str, client: str, name: str = FIRST_NAME) -> str:
        """Return the token of a new session. Raises WrongPassword or TooManyAttempts.

        Counts the attempt before it verifies the password, so that parallel attempts count too; success deletes the
        client's attempts with this name alone, so that nobody's own password allows more attempts at another's.
        """
        with self._database.reading() as session:
            named, first = _find(session, name), _find(session, FIRST_NAME)
        mine = self._count_attempt("password", client, name if named else None)
        # With an unknown name, verify against another hash all the same: the time does not tell which names there are.
        checked = named or first
        is_right = len(password) <= LONGEST_PASSWORD and checked and _is_right(checked.password_hash, password)
        if named is None or not is_right:
            raise WrongPassword
        token, now = secrets.token_urlsafe(32), time.time()

        def begin(session: Session) -> None:
            lock_table(session, Administrator)
            current = _find(session, name)
            if current is None or current.password_hash != named.password_hash:  # it was changed meanwhile
                raise WrongPassword
            own = SignInAttempt.address == mine, SignInAttempt.administrator == name
            session.execute(delete(SignInAttempt).where(*own))
            session.add(AdminSession(token_sha256=_digest(token), administrator=name, created_at=now, seen_at=now))

        write_using_reserve(self._database, begin)
        return token

    def remaining_attempts(self, client: str) -> tuple[int, int | None]:
        """Return how many attempts at the password a client has left and, if none, the seconds until the next one."""
        now, key = time.time(), f"password:{client}"
        recent = within(SignInAttempt.at, ATTEMPT_WINDOW_SECONDS, now)
        with self._database.reading() as session:
            wait = _seconds_to_wait(session, "password", key, now)
            counts = [
                limit - session.scalars(select(func.count()).where(recent, attempts)).one()
                for attempts, limit in _limits("password", key)
            ]
        return (0 if wait else min(counts)), wait

    def count_wrong_token(self, client: str) -> None:
        """Count a wrong bearer token. Raises TooManyAttempts; requests with the right token are not limited."""
        self._count_attempt("token", client)

    def holder(self, token: str | None, in_use: bool = True) -> str | None:
        """Return the name of the administrator whose session has this token; None if it has been ended or has expired.

        A request that nobody made by hand is not `in_use`: it does not put the session's end off.
        """
        if not isinstance(token, str):
            return None
        now = time.time()
        mine = AdminSession.token_sha256 == _digest(token)
        with self._database.reading() as session:
            found = session.scalar(select(AdminSession).where(mine))
        if found is None or not _lasts(found, now):
            return None
        if in_use and now - found.seen_at > SEEN_STEP_SECONDS:
            seen = update(AdminSession).where(mine).values(seen_at=now)  # no row, if it was signed out meanwhile
            write_using_reserve(self._database, lambda session: session.execute(seen))
        return found.administrator or FIRST_NAME

    def sign_out(self, token: str) -> None:
        mine = AdminSession.token_sha256 == _digest(token)
        write_using_reserve(self._database, lambda session: session.execute(delete(AdminSession).where(mine)))

    def _count_attempt(self, secret: str, client: str, administrator: str | None = None) -> str:
        """Count an attempt at "password" or "token"; return its key. Raises TooManyAttempts at a limit."""
        mine, now = f"{secret}:{client}", time.time()
        with self._database.reading() as session:  # a refusal must not need the write lock
            _check_limits(session, secret, mine, now)

        def count(session: Session) -> None:
            lock_table(session, SignInAttempt)
            _check_limits(session, secret, mine, now)
            session.add(SignInAttempt(address=mine, administrator=administrator, at=now))

        write_using_reserve(self._database, count)
        return mine


def sweep(database: Database) -> None:
    """Delete attempts that no longer count and expired sessions. Cheap if there are none."""
    now = time.time()
    old = ~within(SignInAttempt.at, ATTEMPT_WINDOW_SECONDS, now)
    ended = ~_lasts(AdminSession, now)
    with database.reading() as session:
        if not session.scalar(select(exists().where(old) | exists().where(ended))):
            return

    def remove(session: Session) -> None:
        session.execute(delete(SignInAttempt).where(old))
        session.execute(delete(AdminSession).where(ended))

    write_using_reserve(database, remove)


def _check_limits(session: Session, secret: str, mine: str, now: float) -> None:
    if wait := _seconds_to_wait(session, secret, mine, now):
        raise TooManyAttempts(f"Too many attempts. Please try again in {wait} seconds.", wait)


def _seconds_to_wait(session: Session, secret: str, mine: str, now: float) -> int | None:
    """Return the seconds until an attempt is allowed; None if one is."""
    for attempts, limit in _limits(secret, mine):
        if wait := seconds_until_below(session, limit, SignInAttempt.at, ATTEMPT_WINDOW_SECONDS, now, attempts):
            return wait
    return None


def _limits(secret: str, mine: str) -> tuple[tuple[ColumnElement[bool], int], ...]:
    """Return conditions on the attempts at a secret, each with the number that is allowed."""
    all_clients = SignInAttempt.address.startswith(f"{secret}:")
    return (SignInAttempt.address == mine, ATTEMPTS_PER_ADDRESS), (all_clients, ATTEMPTS_IN_ALL)


def _lasts(session, now: float):
    """Tell whether a session has not expired, for a row or, as an SQL condition, for the table."""
    return within(session.seen_at, SESSION_IDLE_SECONDS, now) & within(session.created_at, SESSION_SECONDS, now)


def _find(session: Session, name: str) -> Administrator | NamedAdministrator | None:
    """Return the administrator with this name, which may be any text."""
    if name == FIRST_NAME:
        return session.get(Administrator, 1)
    # PostgreSQL refuses a query with a NUL in it.
    return session.get(NamedAdministrator, name) if NAME.fullmatch(name) else None


def _get(session: Session, name: str) -> Administrator | NamedAdministrator:
    """Return the administrator with this name; raises NameRefused."""
    if found := _find(session, name):
        return found
    raise NameRefused(f"There is no administrator {name}.")


def _end_sessions(session: Session, name: str) -> None:
    session.execute(delete(AdminSession).where(func.coalesce(AdminSession.administrator, FIRST_NAME) == name))


def _hash(password: str) -> str:
    """Return the password's hash; raises PasswordRefused."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise PasswordRefused(f"The password must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.")
    try:
        return HASHER.hash(password)
    except UnicodeEncodeError as error:
        raise PasswordRefused("The password must be text in UTF-8.") from error


def _is_right(password_hash: str, password: str) -> bool:
    try:
        return HASHER.verify(password_hash, password)
    except (VerificationError, UnicodeEncodeError):
        return False


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
