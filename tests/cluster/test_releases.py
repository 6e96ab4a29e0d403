"""The release before works beside this one, on the database that this one has migrated."""

from contextlib import ExitStack, closing, contextmanager

import pytest
from sqlalchemy import select

from model.data import mnist
from tests.conftest import PASSWORD, TOKEN, own_database
from tests.support.cluster import SCRIPT, Browser, Process, Replica
from tests.support.requests import ONE
from tests.support.servers import START_SECONDS, wait_until
from tests.support.upgrading import unpack_release_before
from tests.support.versions import computed
from webapp.settings import ROOT
from webapp.storage.engine import Database
from webapp.storage.schema import Run

RUN_SECONDS = 240
# And nothing computed unasked. It imports the release in whose folder a process starts.
FEW_DIGITS = {"PYTHONPATH": f".:{ROOT / 'tests' / 'support' / 'few_digits'}"}


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
    """With a worker of each. Set-up of a release of before 0012 refuses any newer schema, and changes nothing."""
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
        assert before.spawn("webapp", "setup").wait(START_SECONDS) == 2
        for replica in (before, after):
            assert replica.ask("GET", f"/admin/versions/{run.version_id}", None, SCRIPT).status == 200


def ended(database, number):
    def find():
        with database.reading() as session:
            return session.scalar(select(Run).where(Run.id == number, Run.ended_at.is_not(None)))

    return wait_until(find, RUN_SECONDS)
