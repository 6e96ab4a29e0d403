"""The administrator's password, sessions and attempts."""

import time
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, text

from tests.conftest import PASSWORD
from webapp import auth as door_module
from webapp.auth import (
    ATTEMPT_WINDOW_SECONDS,
    ATTEMPTS_IN_ALL,
    ATTEMPTS_PER_ADDRESS,
    SESSION_IDLE_SECONDS,
    SESSION_SECONDS,
    Authenticator,
    NameRefused,
    PasswordRefused,
    TooManyAttempts,
    WrongPassword,
)
from webapp.storage.engine import Database
from webapp.storage.schema import Administrator, AdminSession, SignInAttempt
from webapp.storage.timestamps import SKEW_SECONDS


@pytest.fixture
def door(database):
    return Authenticator(database)


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(now=1_000_000.0)
    monkeypatch.setattr(door_module, "time", types.SimpleNamespace(time=lambda: clock.now))
    return clock


def rows(database, kind):
    with database.reading() as session:
        return session.scalars(select(kind)).all()


def test_password_is_hashed_with_argon2id(database):
    Authenticator(database).set_password(PASSWORD)
    (row,) = rows(database, Administrator)
    assert row.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert PASSWORD not in row.password_hash


def test_door_without_password_stays_shut(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/new.db")
    database.upgrade()
    door = Authenticator(database)
    assert not door.has_password()
    for number, password in enumerate(["", "admin", "password", "administrator", "inkling"]):
        with pytest.raises(WrongPassword):
            door.sign_in(password, str(number))
    database.close()


@pytest.mark.parametrize("password", ["", "1234567", "\u00e9" * 7, "x" * 1025, "a lone \ud800 surrogate"])
def test_password_outside_the_limits_is_refused(door, password):
    for give in (door.set_password, door.keep_password):
        with pytest.raises(PasswordRefused):
            give(password)
    assert door.sign_in(PASSWORD, "here")


@pytest.mark.parametrize("password", ["12345678", "\u00e9" * 8, " spaces at the ends ", "x" * 1024, "with a \0 in it"])
def test_password_within_the_limits_is_taken(door, password):
    door.set_password(password)
    assert door.sign_in(password, "here")
    for other in (password[:-1], PASSWORD):
        with pytest.raises(WrongPassword):
            door.sign_in(other, other[:5])


@pytest.mark.both_databases
def test_session_is_open_until_sign_out(door, database):
    token, other = door.sign_in(PASSWORD, "here"), door.sign_in(PASSWORD, "there")
    assert token != other and len(token) >= 40
    assert door.holder(token) and door.holder(other)
    assert not {token, other} & {row.token_sha256 for row in rows(database, AdminSession)}
    door.sign_out(token)
    assert not door.holder(token) and door.holder(other)


@pytest.mark.both_databases
def test_session_unknown_token_is_refused(door):
    door.sign_in(PASSWORD, "here")
    for token in (None, "", "x", "\ud800", 7, ["x"], "' OR 1=1 --", "0" * 64):
        assert not door.holder(token)


def test_session_digest_from_the_database_opens_nothing(door, database):
    door.sign_in(PASSWORD, "here")
    assert not door.holder(rows(database, AdminSession)[0].token_sha256)


@pytest.mark.parametrize("password", [PASSWORD, "another password"])
def test_password_set_ends_sessions_and_forgets_attempts(door, database, password):
    """Setting the old one again, of a person who fears that it is known, said so and signed nobody out."""
    token = door.sign_in(PASSWORD, "here")
    fail(door, ATTEMPTS_PER_ADDRESS)
    door.set_password(password)
    assert not door.holder(token) and rows(database, AdminSession) == rows(database, SignInAttempt) == []
    assert door.holder(door.sign_in(password, "here"))


def test_password_kept_changes_nothing(door, database):
    token = door.sign_in(PASSWORD, "here")
    fail(door, 2)
    before = rows(database, Administrator)[0].password_hash
    door.keep_password(PASSWORD)
    assert door.holder(token) and len(rows(database, SignInAttempt)) == 2
    assert rows(database, Administrator)[0].password_hash == before
    door.keep_password("another password")
    assert not door.holder(token) and door.sign_in("another password", "here")


def test_session_idle_ends(door, clock):
    token = door.sign_in(PASSWORD, "here")
    for _ in range(3):
        clock.now += SESSION_IDLE_SECONDS - 1
        assert door.holder(token)
    clock.now += SESSION_IDLE_SECONDS - 1
    assert door.holder(token, in_use=False)  # a page's own requests do not put the end off
    clock.now += 2
    assert not door.holder(token)


def test_session_busy_ends_at_its_age(door, clock):
    token = door.sign_in(PASSWORD, "here")
    end = clock.now + SESSION_SECONDS
    while clock.now + SESSION_IDLE_SECONDS / 2 <= end:
        clock.now += SESSION_IDLE_SECONDS / 2
        assert door.holder(token)
    clock.now = end + 1
    assert not door.holder(token)


@pytest.mark.both_databases
def test_sessions_ended_are_removed(door, clock, database):
    door.sign_in(PASSWORD, "here")
    clock.now += SESSION_IDLE_SECONDS + 1
    token = door.sign_in(PASSWORD, "here")
    door_module.sweep(database)
    assert len(rows(database, AdminSession)) == 1 and door.holder(token)


@pytest.mark.both_databases
def test_attempts_expired_are_removed(door, clock, database):
    fail(door, 2)
    clock.now += 60
    fail(door, 1)
    clock.now += ATTEMPT_WINDOW_SECONDS - 30
    door_module.sweep(database)
    assert len(rows(database, SignInAttempt)) == 1
    clock.now += 60
    door_module.sweep(database)
    assert rows(database, SignInAttempt) == []


def fail(door, times, address="here"):
    for _ in range(times):
        with pytest.raises(WrongPassword):
            door.sign_in("wrong", address)


@pytest.mark.both_databases
def test_attempts_five_per_address_in_the_window(door, clock):
    fail(door, ATTEMPTS_PER_ADDRESS - 1)
    clock.now += 60
    fail(door, 1)
    for password in ("wrong", PASSWORD):
        with pytest.raises(TooManyAttempts) as caught:
            door.sign_in(password, "here")
        assert caught.value.retry_after == ATTEMPT_WINDOW_SECONDS - 60
    assert door.sign_in(PASSWORD, "there")
    clock.now += caught.value.retry_after + 1
    assert door.sign_in(PASSWORD, "here")


@pytest.mark.both_databases
def test_attempts_at_once_count_like_attempts_in_turn(door):
    def attempt(_):
        try:
            door.sign_in("wrong", "here")
        except (WrongPassword, TooManyAttempts) as error:
            return type(error)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(attempt, range(20)))
    assert found.count(WrongPassword) == ATTEMPTS_PER_ADDRESS
    assert found.count(TooManyAttempts) == 20 - ATTEMPTS_PER_ADDRESS


def test_attempts_refused_do_not_extend_the_wait(door, clock):
    fail(door, ATTEMPTS_PER_ADDRESS)
    for _ in range(10):
        clock.now += ATTEMPT_WINDOW_SECONDS / 11
        with pytest.raises(TooManyAttempts):
            door.sign_in("wrong", "here")
    clock.now += ATTEMPT_WINDOW_SECONDS / 11 + 1
    assert door.sign_in(PASSWORD, "here")


def test_attempts_of_many_addresses_share_a_limit(door, clock, database):
    fail(door, 1, "elsewhere")  # proves that a wrong password is looked at; the others need not take the time
    with database.writing() as session:
        session.add_all(SignInAttempt(address=f"password:10.0.0.{n}", at=clock.now) for n in range(ATTEMPTS_IN_ALL - 1))
    with pytest.raises(TooManyAttempts):
        door.sign_in(PASSWORD, "here")
    clock.now += ATTEMPT_WINDOW_SECONDS + 1
    assert door.sign_in(PASSWORD, "here")


@pytest.mark.both_databases
def test_attempts_with_tokens_count_apart_from_passwords(door, clock):
    """A script with an old token keeps nobody from signing in, from its own address neither."""
    for _ in range(ATTEMPTS_PER_ADDRESS):
        door.count_wrong_token("here")
    for address in range(ATTEMPTS_IN_ALL - ATTEMPTS_PER_ADDRESS):
        door.count_wrong_token(str(address))
    for address in ("here", "not yet seen"):
        with pytest.raises(TooManyAttempts) as caught:
            door.count_wrong_token(address)
        assert caught.value.retry_after == ATTEMPT_WINDOW_SECONDS
    fail(door, 1)
    assert door.sign_in(PASSWORD, "here")


@pytest.mark.both_databases
def test_attempts_are_taken_back_by_success(door):
    fail(door, ATTEMPTS_PER_ADDRESS - 1)
    door.sign_in(PASSWORD, "here")
    fail(door, ATTEMPTS_PER_ADDRESS)
    with pytest.raises(TooManyAttempts):
        door.sign_in(PASSWORD, "here")


YEAR = 365 * 24 * 3600


@pytest.mark.both_databases
def test_attempts_from_a_clock_ahead_lock_nothing(door, clock, database):
    clock.now += YEAR
    fail(door, ATTEMPTS_PER_ADDRESS)
    clock.now -= YEAR
    assert door.sign_in(PASSWORD, "here")
    fail(door, 1)
    door_module.sweep(database)
    assert [row.at for row in rows(database, SignInAttempt)] == [clock.now]


def test_clock_put_back_a_little_changes_nothing(door, clock, database):
    token = door.sign_in(PASSWORD, "here")
    fail(door, ATTEMPTS_PER_ADDRESS)
    clock.now -= SKEW_SECONDS / 2
    door_module.sweep(database)
    assert door.holder(token)
    with pytest.raises(TooManyAttempts) as caught:
        door.sign_in(PASSWORD, "here")
    assert caught.value.retry_after == ATTEMPT_WINDOW_SECONDS


@pytest.mark.parametrize("moved", [YEAR, -YEAR])
def test_clock_off_by_a_year_ends_sessions(door, clock, database, moved):
    """No session outlives its limits by being dated ahead."""
    token = door.sign_in(PASSWORD, "here")
    clock.now += moved
    assert not door.holder(token)
    door_module.sweep(database)
    assert rows(database, AdminSession) == []


# Several administrators

OTHER = "another battery staple"


@pytest.mark.both_databases
def test_administrators_sign_in_by_name_and_sessions_are_theirs(door):
    door.add("anna", OTHER)
    assert list(door.names()) == ["administrator", "anna"]
    mine, hers = door.sign_in(PASSWORD, "here"), door.sign_in(OTHER, "there", "anna")
    assert (door.holder(mine), door.holder(hers)) == ("administrator", "anna")
    for name, password in (("administrator", OTHER), ("anna", PASSWORD), ("nobody", PASSWORD), ("", PASSWORD)):
        with pytest.raises(WrongPassword):
            door.sign_in(password, name, name)
    door.set_password(PASSWORD)
    assert (door.holder(mine), door.holder(hers)) == (None, "anna")
    mine = door.sign_in(PASSWORD, "here")
    door.set_password(OTHER + "!", "anna")
    assert (door.holder(mine), door.holder(hers)) == ("administrator", None)
    hers = door.sign_in(OTHER + "!", "there", "anna")
    door.remove("anna")
    assert (door.holder(mine), door.holder(hers)) == ("administrator", None)
    with pytest.raises(WrongPassword):
        door.sign_in(OTHER + "!", "there", "anna")
    door.add("anna", OTHER)  # another person
    assert door.holder(hers) is None and list(door.names()) == ["administrator", "anna"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Anna",
        "a b",
        "run 3",
        "script",
        "token",
        "set-up",
        "run",
        ".a",
        "\u00e4nne",
        "a" * 65,
        "a\n",
        "anna",
        "administrator",
    ],
)
def test_administrator_cannot_have_any_name(door, name):
    door.add("anna", OTHER)
    with pytest.raises(NameRefused):
        door.add(name, OTHER)
    assert list(door.names()) == ["administrator", "anna"]


def test_administrator_unknown_or_first_is_not_removed(door):
    for change in (lambda: door.remove("nobody"), lambda: door.remove("administrator"),
                   lambda: door.set_password(OTHER, "nobody")):  # fmt: skip
        with pytest.raises(NameRefused):
            change()
    assert list(door.names()) == ["administrator"] and door.sign_in(PASSWORD, "here")


def test_name_unknown_is_refused_after_the_same_work(door, monkeypatch):
    """The time of an answer must not tell which names there are."""
    door.add("anna", OTHER)
    checked, is_right = [], door_module._is_right
    monkeypatch.setattr(door_module, "_is_right", lambda *of: checked.append(of) or is_right(*of))
    for name in ("anna", "nobody"):
        with pytest.raises(WrongPassword):
            door.sign_in("wrong", name, name)
    assert [password for _, password in checked] == ["wrong", "wrong"]
    with pytest.raises(WrongPassword):  # the right password of another name
        door.sign_in(PASSWORD, "here", "nobody")


def test_names_share_the_limit_of_an_address(door):
    door.add("anna", OTHER)
    fail(door, ATTEMPTS_PER_ADDRESS)
    with pytest.raises(TooManyAttempts):
        door.sign_in(OTHER, "here", "anna")


@pytest.mark.both_databases
def test_name_right_password_takes_back_no_attempts_at_another(door):
    """An administrator had any number of attempts at the password of another one."""
    door.add("anna", OTHER)
    fail(door, ATTEMPTS_PER_ADDRESS - 2)
    with pytest.raises(WrongPassword):
        door.sign_in("wrong", "here", "nobody")
    door.sign_in(OTHER, "here", "anna")
    assert door.remaining_attempts("here") == (1, None)
    fail(door, 1)
    with pytest.raises(TooManyAttempts):
        door.sign_in(OTHER, "here", "anna")


@pytest.mark.both_databases
def test_name_of_any_text_is_refused_as_unknown(door):
    """PostgreSQL takes no NUL, and answered with an error of the database."""
    door.add("anna", OTHER)
    for name in ("anna\0", "\0", "\ud800", "\u00e4nne", "a" * 100_000, "' OR 1=1 --", "%"):
        with pytest.raises(WrongPassword):
            door.sign_in(OTHER, repr(name)[:20], name)


@pytest.mark.both_databases
def test_release_before_signs_in_the_first_administrator(door, database):
    """It knows neither names nor whose a session is, and takes any row for the only administrator."""
    with database.writing() as session:
        session.execute(text("INSERT INTO admin_session (token_sha256, created_at, seen_at) VALUES (:it, :now, :now)"),
                        {"it": door_module._digest("its"), "now": time.time()})  # fmt: skip
    door.add("anna", OTHER)
    assert door.holder("its") == "administrator"
    door.set_password(OTHER, "anna")
    assert door.holder("its") == "administrator"
    door.set_password(PASSWORD + "!")  # PostgreSQL moves the row to the end of its table
    assert door.holder("its") is None
    with database.reading() as session:
        (password_hash,) = session.scalars(text("SELECT password_hash FROM administrator")).all()
    assert door_module.HASHER.verify(password_hash, PASSWORD + "!")
