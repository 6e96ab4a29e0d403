"""The release before works beside this one, on the database that this one has migrated."""

import json
import re
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack, closing, contextmanager

import pytest
from sqlalchemy import select

from model.data import mnist
from tests.conftest import PASSWORD, TOKEN, own_database
from tests.support.cluster import SCRIPT, Browser, Process, Replica
from tests.support.requests import ONE
from tests.support.servers import START_SECONDS, free_port, wait_until
from tests.support.units import Units
from tests.support.upgrading import unpack_release_before
from tests.support.versions import computed
from webapp.settings import ROOT
from webapp.storage.engine import Database
from webapp.storage.schema import Run

RUN_SECONDS = 240
FEW_DIGITS = {"PYTHONPATH": str(ROOT / "tests" / "support" / "few_digits")}  # and nothing computed unasked


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """The folders of the release before and of this one."""
    before = tmp_path_factory.mktemp("release")
    unpack_release_before(before)
    return before, ROOT


@contextmanager
def started(process):
    process.start()
    try:
        if isinstance(process, Replica):
            wait_until(lambda: not process.running or process.is_ready())
            assert process.running, process.log.read_text()[-2000:]
        yield process
    finally:
        if process.running:
            process.kill()


def set_up(process):
    assert process.spawn("webapp", "setup").wait(START_SECONDS) == 0, process.log.read_text()[-2000:]


def settings_for(url):
    own = {"DATABASE_URL": url, "REDIS_URL": "", "MNIST_DIR": str(mnist.default_folder()), "SECRET_KEY": "k" * 64}
    return own | FEW_DIGITS | {"ADMIN_PASSWORD": PASSWORD, "ADMIN_TOKEN": TOKEN, "HTTPS": "1"}


@contextmanager
def side_by_side(releases, folder, url):
    """The web servers of both, after an upgrade during which the older one served."""
    environ = settings_for(url)
    before, after = (
        Replica(folder / name, of, **environ) for name, of in zip(("before", "after"), releases, strict=True)
    )
    set_up(before)
    with started(before), closing(Database(url)) as database:
        kept = keep(before, 1)
        set_up(after)
        computed(database)
        with started(after):
            yield before, after, kept, database


def keep(replica, meant):
    """Keeps a correction; the path of its receipt."""
    answer = replica.ask("POST", "/feedback", ONE | {"meant": meant})
    assert answer.status == 201, answer.body
    return answer.json["receipt"]


def serve(before, after, kept):
    """What people do at either, with what was kept at the other."""
    assert before.ask("POST", "/predict", ONE).json == after.ask("POST", "/predict", ONE).json
    administrator = Browser(before.ask)
    assert administrator.sign_in(PASSWORD).status == 303
    receipts = [kept, keep(before, 2), keep(after, 3)]
    for replica in (before, after):
        assert replica.ask("GET", "/readyz").status == 200
        for path in ("/", "/gallery", "/gallery/0", *receipts):
            assert replica.ask("GET", path, None, {"Accept": "text/html"}).status == 200, path
        for path in ("/admin", "/admin/runs", "/admin/versions", "/admin/versions/1", "/admin/corrections"):
            assert administrator.get(path, replica.ask).status == 200, path
        listed = replica.ask("GET", "/admin/corrections?state=received", None, SCRIPT).json["corrections"]
        decided = {"ids": [listed[-1]["id"]], "action": "approve"}
        assert replica.ask("POST", "/admin/corrections/decide", decided, SCRIPT).status == 200
    for replica, receipt in zip((after, before), receipts[1:], strict=True):
        assert replica.ask("DELETE", receipt).status < 300


def test_release_before_serves_beside_this_one(releases, tmp_path):
    url = f"sqlite:///{tmp_path}/inkling.db"
    with side_by_side(releases, tmp_path, url) as (before, after, kept, _):
        serve(before, after, kept)


@pytest.mark.cluster
def test_release_before_works_beside_this_one_on_postgresql(releases, tmp_path, postgresql):
    """With a worker of each, and back: set-up of the release before leaves the schema as it is."""
    with own_database(postgresql) as url, ExitStack() as stack:
        before, after, kept, database = stack.enter_context(side_by_side(releases, tmp_path, url))
        serve(before, after, kept)
        for number, (name, release, asked) in enumerate(
            (("worker-before", releases[0], after), ("worker-after", releases[1], before)), 1
        ):
            worker = Process(tmp_path / name, ["webapp", "worker"], release, **settings_for(url))
            with started(worker):
                begun = asked.ask("POST", "/admin/retrain", {"preset": "basic", "epochs": 1}, SCRIPT)
                assert begun.status == 202, begun.body
                run = ended(database, number)
                assert (run.state, run.error) == ("finished", None), worker.log.read_text()[-2000:]
        if looks(releases[0]):
            set_up(before)
        for replica in (before, after):
            assert replica.ask("GET", f"/admin/versions/{run.version_id}", None, SCRIPT).status == 200


def ended(database, number):
    def find():
        with database.reading() as session:
            return session.scalar(select(Run).where(Run.id == number, Run.ended_at.is_not(None)))

    return wait_until(find, RUN_SECONDS)


@pytest.mark.cluster
def test_upgrade_and_way_back_by_the_documents_commands(releases, tmp_path):
    """Those of docs/upgrading.md, with the units of deploy/; readings are answered all the while."""
    units, ports = Units(tmp_path), [free_port(), free_port()]
    web = [f"inkling-web@{port}" for port in ports]
    for name, release in zip(("inkling-before", "inkling-after"), releases, strict=True):
        units.unpack(name, release)
    units.install("inkling-before")
    own = {"DATA_DIR": str(units.home), "MNIST_DIR": str(mnist.default_folder()), "WEB_CONCURRENCY": "1"}
    units.write_settings(**own, **FEW_DIGITS)
    try:
        assert units.shell(f"systemctl start inkling-worker {' '.join(web)}").returncode == 0
        for port in ports:
            wait_until(lambda port=port: status(port, "/readyz") == 200)
        with Readings(ports) as readings:
            for name, release in zip(("after", "before"), reversed(releases), strict=True):
                script = commands(name, ports)
                if not looks(release):
                    script = script.replace("systemctl start inkling-setup\n", "")
                done = units.shell(script)
                assert done.returncode == 0, done.stderr + units.log("inkling-setup").read_text()[-2000:]
                assert {units.release_of(unit) for unit in (*web, "inkling-worker")} == {f"inkling-{name}"}
        assert readings.answered > 10 and not readings.failed
    finally:
        units.end()


def looks(release):
    """Whether a release looks if a newer schema suits it; set-up of one before refuses every one."""
    return (release / "webapp" / "storage" / "compatibility.py").exists()


def commands(release, ports):
    """The commands of the document for a release that is unpacked and has its packages."""
    (script,) = re.findall(r"^```sh\n(release=NEW.+?)^```", (ROOT / "docs" / "upgrading.md").read_text(), re.M | re.S)
    script = script.replace("release=NEW", f"release={release}").replace("8001 8002", " ".join(map(str, ports)))
    script, skipped = re.subn(r"^\(cd .+make \.venv/ready\)", "", script, flags=re.M)
    assert skipped == 1
    return script


def status(port, path, body=None):
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


class Readings:
    """A client that asks one of the web servers after the other, and the next one where one is away, as nginx does."""

    def __init__(self, ports):
        self._ports, self._stop = ports, threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.answered, self.failed = 0, []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _ask(self):
        body = json.dumps(ONE).encode()
        while not self._stop.wait(0.05):
            found = [status(port, "/predict", body) for port in self._ports]
            if 200 in found and not {*found} - {200, None}:
                self.answered += 1
            else:
                self.failed.append(found)
