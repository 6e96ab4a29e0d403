"""HEAD and OPTIONS, at every address that there is."""

import pytest
from sqlalchemy import select

from tests.conftest import PASSWORD
from tests.webapp.administrator import BROWSER, SCRIPT, sign_in
from tests.webapp.asking import ONE
from webapp.database import Base
from webapp.services import services

pytestmark = pytest.mark.both_databases

# What the parts of an address stand for in an installation with a run, a correction and a version.
PARTS = {"run_id": 1, "version_id": 1, "number": 1, "kind": "npz", "digest": "0" * 12, "name": "css/base.css"}


@pytest.fixture
def addresses(app, client):
    """Every address with one example of its parts, and whether it answers GET."""
    sent = client.post("/feedback", json=ONE | {"meant": 1})
    assert sent.status_code == 201
    assert client.post("/admin/retrain", json={}, headers=SCRIPT).status_code == 202
    parts = PARTS | {"secret": sent.get_json()["receipt"].rpartition("/")[2]}
    urls = app.url_map.bind("localhost")
    found = {}
    for rule in app.url_map.iter_rules():
        address = urls.build(rule.endpoint, {name: parts[name] for name in rule.arguments})
        found[address] = found.get(address, False) or "GET" in rule.methods
    assert len(found) > 30 and sum(found.values()) > 20
    return found


def everything(app):
    """All rows of all tables."""
    with services(app).database.reading() as session:
        tables = Base.metadata.sorted_tables
        return {table.name: session.execute(select(table).order_by(*table.primary_key)).all() for table in tables}


@pytest.mark.parametrize("who", ["anybody", "a script", "an administrator"])
def test_head_changes_nothing_and_answers_as_get_does(app, client, addresses, who):
    """HEAD /admin/sign-in was counted as a wrong password: five of a monitor locked the administrator out."""
    if who == "an administrator":
        assert sign_in(client).status_code == 303
    headers = SCRIPT if who == "a script" else BROWSER
    for address in [address for address, answers_get in addresses.items() if answers_get]:
        with client.get(address, headers=headers) as got:  # first, as some ask a worker to compute something
            before = everything(app)
            head = client.head(address, headers=headers)
            assert (head.status_code, head.data) == (got.status_code, b""), address
        assert everything(app) == before, address


@pytest.mark.parametrize("headers", [{}, SCRIPT], ids=["anybody", "a script"])
def test_options_changes_nothing_and_tells_the_methods(app, client, addresses, headers):
    before = everything(app)
    for address, answers_get in addresses.items():
        options = client.options(address, headers=headers, data={"password": PASSWORD})
        assert options.status_code == 200 and ("GET" in options.allow) == ("HEAD" in options.allow) == answers_get
    assert everything(app) == before
