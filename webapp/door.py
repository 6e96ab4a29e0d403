"""The administrator's door: the password, who is signed in, and how often it may be tried."""

from __future__ import annotations

import hashlib
import secrets
import time

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy import delete, func, select, update

from webapp.database import Administrator, AdminSession, Database, SignInAttempt, add_missing, alone

# Argon2id with 19 MiB, two passes, one lane: OWASP's Password Storage Cheat Sheet.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 1024
LONGEST_ADDRESS = 100  # a proxy may pass on what a client made up, and PostgreSQL's index takes only so much

ATTEMPTS_PER_ADDRESS = 5
ATTEMPTS_IN_ALL = 50
ATTEMPT_WINDOW_SECONDS = 5 * 60

SESSION_IDLE_SECONDS = 8 * 3600
SESSION_SECONDS = 7 * 24 * 3600
SEEN_STEP_SECONDS = 60


class NotSignedIn(Exception):
    """The administrator's door is closed to this request."""

    def __init__(self, message: str = "Please sign in as administrator first."):
        super().__init__(message)


class WrongPassword(Exception):
    """The password is not the administrator's."""


class TooManyAttempts(Exception):
    """Sign-in has failed too often lately; `retry_after` says in how many seconds it may be tried again."""

    def __init__(self, retry_after: int):
        super().__init__(f"Too many attempts. Please try again in {retry_after} seconds.")
        self.retry_after = retry_after


class PasswordRefused(ValueError):
    """The password may not be used; the message says why."""


class Door:
    """Everything about it is a row in the database, so it is the same door for every process."""

    def __init__(self, database: Database):
        self._database = database

    def has_password(self) -> bool:
        with self._database.reading() as session:
            return session.get(Administrator, 1) is not None

    def set_password(self, password: str) -> None:
        """Sets the password and ends every session, unless it is the present one. Raises PasswordRefused."""
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise PasswordRefused(f"The password must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.")
        try:
            if self._is_right(password):
                return
            hashed = HASHER.hash(password)
        except UnicodeEncodeError as error:
            raise PasswordRefused("The password must be text in UTF-8.") from error
        with self._database.writing() as session:
            alone(session, Administrator)
            session.merge(Administrator(id=1, password_hash=hashed))
            session.execute(delete(AdminSession))

    def set_first_password(self, password: str) -> bool:
        """Sets the password where there is none yet; False where another process was first."""
        with self._database.writing() as session:
            return add_missing(session, Administrator, id=1, password_hash=HASHER.hash(password))

    def sign_in(self, password: str, address: str) -> str:
        """The secret of a new session. Raises WrongPassword or TooManyAttempts.

        The attempt is counted before the password is looked at, so that parallel tries count too; success takes the
        address's attempts back.
        """
        address = address[:LONGEST_ADDRESS]
        self._count_attempt(address)
        if len(password) > LONGEST_PASSWORD or not self._is_right(password):
            raise WrongPassword
        token, now = secrets.token_urlsafe(32), time.time()
        with self._database.writing() as session:
            session.execute(delete(SignInAttempt).where(SignInAttempt.address == address))
            session.execute(delete(AdminSession).where(AdminSession.created_at < now - SESSION_SECONDS))
            session.add(AdminSession(token_sha256=_digest(token), created_at=now, seen_at=now))
        return token

    def is_open(self, token: str | None) -> bool:
        """Whether the secret belongs to a session that is neither signed out nor too old."""
        if not isinstance(token, str):
            return False
        now = time.time()
        with self._database.reading() as session:
            row = session.get(AdminSession, _digest(token))
        if row is None or now - row.seen_at > SESSION_IDLE_SECONDS or now - row.created_at > SESSION_SECONDS:
            return False
        if now - row.seen_at > SEEN_STEP_SECONDS:
            with self._database.writing() as session:
                mine = AdminSession.token_sha256 == row.token_sha256  # gone, where it signs out meanwhile
                session.execute(update(AdminSession).where(mine).values(seen_at=now))
        return True

    def sign_out(self, token: str) -> None:
        with self._database.writing() as session:
            session.execute(delete(AdminSession).where(AdminSession.token_sha256 == _digest(token)))

    def _count_attempt(self, address: str) -> None:
        now = time.time()
        since = now - ATTEMPT_WINDOW_SECONDS
        with self._database.writing() as session:
            alone(session, SignInAttempt)
            session.execute(delete(SignInAttempt).where(SignInAttempt.at < since))
            here = SignInAttempt.address == address
            for condition, limit in ((here, ATTEMPTS_PER_ADDRESS), (True, ATTEMPTS_IN_ALL)):
                count, first = session.execute(
                    select(func.count(), func.min(SignInAttempt.at)).where(condition)
                ).one()
                if count >= limit:
                    raise TooManyAttempts(max(1, round(first + ATTEMPT_WINDOW_SECONDS - now)))
            session.add(SignInAttempt(address=address, at=now))

    def _is_right(self, password: str) -> bool:
        with self._database.reading() as session:
            row = session.get(Administrator, 1)
        try:
            return row is not None and HASHER.verify(row.password_hash, password)
        except VerificationError:
            return False


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
