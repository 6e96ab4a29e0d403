"""The administrator's door: the password, who is signed in, and how often it may be tried."""

from __future__ import annotations

import hashlib
import secrets
import time

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session

from webapp.exceptions import AppError
from webapp.storage.disk_reserve import write_using_reserve
from webapp.storage.engine import Database, insert_if_absent, lock_table
from webapp.storage.schema import Administrator, AdminSession, SignInAttempt
from webapp.storage.timestamps import seconds_until_below, within

# Argon2id with 19 MiB, two passes, one lane: OWASP's Password Storage Cheat Sheet.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 1024

# Of each secret that can be guessed. They are counted apart: a script with an old token keeps nobody from signing in.
ATTEMPTS_PER_ADDRESS = 5
ATTEMPTS_IN_ALL = 50
ATTEMPT_WINDOW_SECONDS = 5 * 60

SESSION_IDLE_SECONDS = 8 * 3600
SESSION_SECONDS = 7 * 24 * 3600
SEEN_STEP_SECONDS = 60


class NotSignedIn(AppError):
    """The administrator's door is closed to this request."""

    status, code = 401, "not_signed_in"
    message = "Please sign in as administrator first."


class WrongPassword(Exception):
    """The password is not the administrator's."""


class TooManyAttempts(AppError):
    """The password or the token was wrong too often lately; in `retry_after` seconds it may be tried again."""

    status, code = 429, "too_many_attempts"


class PasswordRefused(ValueError):
    """The password may not be used; the message says why."""


class Authenticator:
    """Everything about it is a row in the database, so it is the same door for every process."""

    def __init__(self, database: Database):
        self._database = database

    def has_password(self) -> bool:
        return self._password_hash() is not None

    def set_password(self, password: str) -> None:
        """Sets the password, ends every session and forgets the failed attempts. Raises PasswordRefused."""
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise PasswordRefused(f"The password must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.")
        try:
            hashed = HASHER.hash(password)
        except UnicodeEncodeError as error:
            raise PasswordRefused("The password must be text in UTF-8.") from error

        def set_it(session: Session) -> None:
            lock_table(session, Administrator)
            session.merge(Administrator(id=1, password_hash=hashed))
            session.execute(delete(AdminSession))
            session.execute(delete(SignInAttempt))

        write_using_reserve(self._database, set_it)

    def keep_password(self, password: str) -> None:
        """Sets the password unless it is the present one: a restart with the same setting signs nobody out."""
        if not _is_right(self._password_hash(), password):
            self.set_password(password)

    def set_first_password(self, password: str) -> bool:
        """Sets the password where there is none yet; False where another process was first."""
        with self._database.writing() as session:
            return insert_if_absent(session, Administrator, id=1, password_hash=HASHER.hash(password))

    def sign_in(self, password: str, source: str) -> str:
        """The secret of a new session. Raises WrongPassword or TooManyAttempts.

        The attempt is counted before the password is looked at, so that parallel tries count too; success takes those
        of this source back.
        """
        mine = self._count_attempt("password", source)
        hashed = self._password_hash()
        if len(password) > LONGEST_PASSWORD or not _is_right(hashed, password):
            raise WrongPassword
        token, now = secrets.token_urlsafe(32), time.time()

        def begin(session: Session) -> None:
            lock_table(session, Administrator)
            if session.scalar(select(Administrator.password_hash)) != hashed:  # another one was set meanwhile
                raise WrongPassword
            session.execute(delete(SignInAttempt).where(SignInAttempt.address == mine))
            session.add(AdminSession(token_sha256=_digest(token), created_at=now, seen_at=now))

        write_using_reserve(self._database, begin)
        return token

    def count_wrong_token(self, source: str) -> None:
        """Counts a wrong token. Raises TooManyAttempts, which leaves those alone who have the right one."""
        self._count_attempt("token", source)

    def is_open(self, token: str | None) -> bool:
        """Whether the secret belongs to a session that is neither signed out nor too old."""
        if not isinstance(token, str):
            return False
        now = time.time()
        with self._database.reading() as session:
            row = session.get(AdminSession, _digest(token))
        if row is None or not _lasts(row, now):
            return False
        if now - row.seen_at > SEEN_STEP_SECONDS:
            mine = AdminSession.token_sha256 == row.token_sha256  # gone, where it signs out meanwhile
            seen = update(AdminSession).where(mine).values(seen_at=now)
            write_using_reserve(self._database, lambda session: session.execute(seen))
        return True

    def sign_out(self, token: str) -> None:
        mine = AdminSession.token_sha256 == _digest(token)
        write_using_reserve(self._database, lambda session: session.execute(delete(AdminSession).where(mine)))

    def _count_attempt(self, secret: str, source: str) -> str:
        """Counts an attempt at a secret under the name that is returned; raises TooManyAttempts at a limit."""
        mine, now = f"{secret}:{source}", time.time()
        with self._database.reading() as session:  # refusing is not to need the lock that every writer waits for
            _check_limits(session, secret, mine, now)

        def count(session: Session) -> None:
            lock_table(session, SignInAttempt)
            _check_limits(session, secret, mine, now)
            session.add(SignInAttempt(address=mine, at=now))

        write_using_reserve(self._database, count)
        return mine

    def _password_hash(self) -> str | None:
        with self._database.reading() as session:
            return session.scalar(select(Administrator.password_hash))


def sweep(database: Database) -> None:
    """Removes the attempts that count no more and the sessions that have ended. Cheap where there are none."""
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
    of_all = SignInAttempt.address.startswith(f"{secret}:")
    for whose, limit in ((SignInAttempt.address == mine, ATTEMPTS_PER_ADDRESS), (of_all, ATTEMPTS_IN_ALL)):
        if wait := seconds_until_below(session, limit, SignInAttempt.at, ATTEMPT_WINDOW_SECONDS, now, whose):
            raise TooManyAttempts(f"Too many attempts. Please try again in {wait} seconds.", wait)


def _lasts(session, now: float):
    """Whether a session, or a row of the table of them, is neither idle for too long nor too old."""
    return within(session.seen_at, SESSION_IDLE_SECONDS, now) & within(session.created_at, SESSION_SECONDS, now)


def _is_right(password_hash: str | None, password: str) -> bool:
    try:
        return password_hash is not None and HASHER.verify(password_hash, password)
    except (VerificationError, UnicodeEncodeError):
        return False


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
