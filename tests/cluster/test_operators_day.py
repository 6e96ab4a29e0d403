"""The day of docs/operating.md, from an empty machine on, by the commands of that page and of those that it names."""

import http.client
import re
import ssl
from contextlib import contextmanager, suppress

import psycopg
import pytest
from sqlalchemy import make_url

from model.data import mnist
from tests.conftest import PASSWORD, TOKEN, own_database
from tests.support.authors import Authors
from tests.support.cluster import ANSWER_SECONDS, SCRIPT, BehindNginx, Load, certify, configure, exchange
from tests.support.exposition import sample
from tests.support.requests import ONE
from tests.support.servers import Nginx, found_or_skip, free_port, wait_until
from tests.support.units import Units
from tests.support.upgrading import upgrade_commands
from webapp.settings import ROOT

OPERATING, DEPLOYING = ((ROOT / page).read_text() for page in ("docs/operating.md", "deploy/README.md"))
SCHOOL = "127.0.5.1"  # the address that all pupils share
OVERLOADED = 503
# And nothing computed unasked. It imports the release in whose folder a process starts.
FEW_DIGITS = {"PYTHONPATH": f".:{ROOT / 'tests' / 'support' / 'few_digits'}"}


def commands(heading, page=OPERATING):
    """The blocks of commands in a section."""
    (section,) = re.findall(rf"^## {re.escape(heading)}$(.+?)(?=^## |\Z)", page, re.M | re.S)
    return re.findall(r"^```sh\n(.+?)^```", section, re.M | re.S)


class Machine:
    """A machine with the units and nginx, below a folder, on which the documents' commands are carried out."""

    def __init__(self, folder, web_servers, database_url=""):
        self.units, self.ports = Units(folder), [free_port() for _ in range(web_servers)]
        self.web = [f"inkling-web@{port}" for port in self.ports]
        self.database_url = database_url
        self.nginx = Nginx(folder / "etc" / "nginx")
        self.front: BehindNginx | None = None

    def do(self, script, code=0):
        """Carries out commands; what they print."""
        if len(self.ports) == 1:
            script = re.sub(r" (inkling-web@)?8002\b", "", script)
        for documented, port in zip(("8001", "8002"), self.ports, strict=False):
            script = script.replace(documented, str(port))
        done = self.units.shell(script)
        assert done.returncode == code, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def add_settings(self, **settings):
        with self.units.env_file.open("a") as file:
            file.writelines(f"{name}='{value}'\n" for name, value in settings.items())

    def start_nginx(self):
        """Edits its files as they are to be edited, and starts it as Debian's package does."""
        certify(self.nginx.folder)
        configure(self.nginx, self.nginx.folder, free_port(), [self.ports[0], self.ports[-1]])
        with self.nginx.config.open("a") as file:
            file.write("daemon off;\n")
        command = " ".join(map(str, self.nginx.command()[:-2]))
        (self.units.system / "nginx.service").write_text(f"[Service]\nWorkingDirectory=/\nExecStart={command}\n")
        self.units.add_program("nginx", f'exec {command} "$@"')
        self.do("systemctl start nginx")
        tls = ssl.create_default_context(cafile=self.nginx.folder / "fullchain.pem")
        tls.check_hostname = False  # it is asked by its address
        self.front = BehindNginx(self.nginx, 0, [], tls)

    def status(self, path, method="GET", body=None, headers=()):
        return self.front.ask(method, path, body, headers, SCHOOL).status

    def look(self, port, path):
        """The answer of one web server; None where it does not answer."""
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
            return exchange(connection, "GET", path, None, {})

    def checks(self, name):
        """What /readyz of each web server says of `name`."""
        answers = [self.look(port, "/readyz") for port in self.ports]
        return [answer.json["checks"][name] if answer else "" for answer in answers]

    def backups(self):
        return sorted((self.units.folder / "var" / "backups" / "inkling").iterdir())

    def wait_until_ready(self):
        wait_until(lambda: all(it.startswith("ok") for name in ("model", "worker") for it in self.checks(name)))


@contextmanager
def machine(*arguments):
    it = Machine(*arguments)
    try:
        yield it
    finally:
        it.units.end()


def install(it):
    """Up to the first sign-in."""
    it.units.unpack("inkling-1")
    it.units.install("inkling-1")
    it.units.env_file.write_text(it.units.below(it.units.env_file.read_text()))
    it.add_settings(MNIST_DIR=mnist.default_folder(), WEB_CONCURRENCY=1, DATABASE_URL=it.database_url, **FEW_DIGITS)
    it.add_settings(ADMIN_PASSWORD=PASSWORD, ADMIN_TOKEN=TOKEN)
    it.start_nginx()
    said = it.do(commands("On a machine of one's own: systemd and nginx", DEPLOYING)[1])
    assert "Administrator: sign in" in said
    it.wait_until_ready()
    assert '"status":"ok"' in it.do(commands("Install")[1]).replace(" ", "")


def classroom():
    """The limits of a classroom in the table of deploy/README.md."""
    found = dict(re.findall(r"^\| `(\w+)`[^|]*\| (\d+) \|", DEPLOYING, re.M))
    assert {"READINGS_PER_SECOND", "CORRECTIONS_PER_HOUR"} < found.keys()
    return found


def limit(it):
    it.add_settings(**classroom())
    said = it.do(commands("A classroom")[0])
    for name, value in classroom().items():
        assert re.search(rf"^{name} +{value} +environment$", said, re.M), said
    it.wait_until_ready()


@contextmanager
def class_at_work(it, pupils):
    """Pupils who draw, and correct what is read wrong, all behind one address; no limit holds them back."""
    with (
        Load(it.front, ONE, pupils, pause=0.4, source=SCHOOL) as readings,
        Authors(it.front, network=5, count=1, pause=0.25, source=SCHOOL) as authors,
    ):
        readings.wait_for(2 * pupils)
        yield authors
        readings.wait_for(2 * pupils)
    assert not refused(readings) and set(authors.statuses) <= {201, OVERLOADED}, authors.statuses


def refused(load):
    """What was not answered, but for want of a machine: there a page asks again."""
    return [it for it in load.failed if it.status != OVERLOADED or it.answer["error"]["code"] != "overloaded"]


def back_up(it):
    """Makes a backup; its file."""
    by_hand = commands("Back up")[0]
    if it.database_url:
        it.do(it.do(by_hand, code=2))
    else:
        assert "verified" in it.do(by_hand)
    (file,) = it.backups()
    return file


def back_up_by_night(it):
    """What cron does, but for the time of day; the backup's file."""
    before = it.backups()
    script = commands("Back up")[1]
    if it.database_url:
        url = make_url(it.database_url)
        script = commands("Back up")[2]
        for documented, own in (
            ("db.internal:5432:inkling:inkling:PASSWORD", f"{url.host}:*:{url.database}:{url.username}:{url.password}"),
            ("postgresql://inkling@db.internal/inkling", url._replace(password=None).render_as_string()),
        ):
            assert documented in script
            script = script.replace(documented, own)
    it.do(script)
    table = (it.units.folder / "etc/cron.d/inkling").read_text()
    (line,) = re.findall(r"^30 2 \* \* \* root (.+)$", table, re.M)
    environment = "".join(f"export {variable}\n" for variable in re.findall(r"^PG\w+=.+$", table, re.M))
    it.do(environment + line.replace(r"\%", "%").replace("$(date", "night-$(date"))
    (made,) = {*it.backups()} - {*before}
    return made


def break_it(it):
    """Readings go on; what is wrong is told."""
    if it.database_url:
        with psycopg.connect(it.database_url.replace("+psycopg", "")) as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    else:
        file = it.units.home / "inkling.db"
        file.write_bytes(b"\xff" * file.stat().st_size)
    wait_until(lambda: not any(said.startswith("ok") for said in it.checks("database")))
    assert "the database does not answer" in it.do(commands("Something breaks")[0].splitlines()[0])
    assert it.status("/predict", "POST", ONE) == 200


def restore(it, file):
    stop, restoring, start = commands("Restore")[0].replace("FILE", str(file)).splitlines()
    it.do(stop)
    if it.database_url:
        at_once, _, later = it.do(restoring, code=2).partition("# Once all is well:\n")
        it.do(at_once)
    else:
        assert "Restored is the backup of " in it.do(restoring)
    it.do(start)
    it.wait_until_ready()
    if it.database_url:
        it.do(later)


def upgrade(it, name):
    """Or the way back; nobody notices."""
    with Load(it.front, ONE, pause=0.1) as readings:
        readings.wait_for(20)
        it.do(upgrade_commands(name, it.ports))
        readings.wait_for(20)
    assert not refused(readings)
    assert "inkling_build_info{" in it.do(commands("Upgrade")[0])
    assert {it.units.release_of(unit) for unit in (*it.web, "inkling-worker")} == {f"inkling-{name}"}


def watch(it):
    """A worker that is stopped is told by every web server, which go on."""

    def workers():
        return [sample(it.look(port, "/metrics").body.decode(), "inkling_workers") for port in it.ports]

    wait_until(lambda: set(workers()) == {1})
    assert "inkling_workers 1.0" in it.do(commands("Watch")[0])
    it.do("systemctl stop inkling-worker")
    wait_until(lambda: set(workers()) == {0})  # the backup, too, has a worker that was alive
    assert all(said.startswith("no worker has answered for ") for said in it.checks("worker"))
    assert it.status("/readyz") == 200
    it.do("systemctl start inkling-worker")
    it.wait_until_ready()


def remove(it, receipt):
    """A parent asks for it."""
    asked = it.front.ask("POST", "/admin/corrections/remove", {"ids": [], "receipt": receipt}, SCRIPT)
    assert (asked.status, asked.json["removed"]) == (200, 1), asked.body
    assert it.status(receipt) == 404
    assert len(it.front.ask("GET", "/admin/removals", headers=SCRIPT).json["removals"]) == 1
    assert "Older than 365 days: " in it.do(commands("Remove")[0])


def receipts_found(it, receipts):
    return [receipt for receipt in receipts if it.status(receipt) == 200]


def morning(it, pupils):
    """A class, a backup meanwhile, and what it is for; returns receipts of before the backup."""
    with class_at_work(it, pupils) as authors:
        before = list(authors.receipts)
        file = back_up(it)
        seen = len(authors.receipts)
        wait_until(lambda: len(authors.receipts) > seen + 1)
    after = authors.receipts[seen + 1 :]  # one may have been on its way
    assert before and len(receipts_found(it, authors.receipts)) == len(authors.receipts)
    break_it(it)
    restore(it, file)
    assert receipts_found(it, before) == before and not receipts_found(it, after)
    return before


def test_operators_day_on_one_web_server(tmp_path):
    """The short form, on SQLite."""
    with machine(tmp_path, 1) as it:
        install(it)
        receipts = morning(it, pupils=6)
        back_up_by_night(it)
        remove(it, receipts[0])


def test_backup_by_night_of_postgresql(tmp_path, postgresql):
    """The line of cron for SQLite is refused there, and makes no file."""
    found_or_skip("postgresql-client", "pg_dump", "pg_restore")
    (tmp_path / "var" / "backups" / "inkling").mkdir(parents=True)
    with own_database(postgresql) as url:
        address = make_url(postgresql.require_password(url, PASSWORD)).set(password=PASSWORD)
        with machine(tmp_path, 1, address.render_as_string(hide_password=False)) as it:
            made = back_up_by_night(it)
    assert made.name.startswith("night-") and made.suffix == ".dump" and made.stat().st_mode & 0o077 == 0
    assert made.read_bytes().startswith(b"PGDMP")


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_operators_day_on_postgresql(tmp_path, postgresql):
    """The upgrade is to this release again: the one before has not all commands of the page (see test_releases.py)."""
    found_or_skip("postgresql-client", "pg_dump", "pg_restore", "psql")
    with own_database(postgresql) as url, machine(tmp_path, 2, url) as it:
        install(it)
        limit(it)
        receipts = morning(it, pupils=30)
        it.units.unpack("inkling-2")
        upgrade(it, "2")
        remove(it, receipts.pop())
        upgrade(it, "1")
        assert receipts_found(it, receipts) == receipts
        watch(it)
