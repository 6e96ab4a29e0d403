"""GET, HEAD and OPTIONS, at every address that there is: none of them changes anything."""

import pytest
from sqlalchemy import select

from tests.conftest import ON_POSTGRESQL_UNDER_STRESS, PASSWORD
from tests.support.administrator import BROWSER, SCRIPT, sign_in
from tests.support.requests import ONE
from webapp.services import services
from webapp.storage.schema import Base, Run

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
    """All rows of all tables, and how many messages wait."""
    with services(app).database.reading() as session:
        tables = Base.metadata.sorted_tables
        rows = {table.name: session.execute(select(table).order_by(*table.primary_key)).all() for table in tables}
    return rows | {"messages": services(app).jobs.huey.pending_count()}


@ON_POSTGRESQL_UNDER_STRESS
@pytest.mark.parametrize("who", ["anybody", "a script", "an administrator"])
def test_get_and_head_change_nothing_and_answer_alike(app, client, addresses, who):
    """Two writes of a GET are not looked at here, as the administrator's sign-in needs both: a wrong token is counted,
    and a session that is in use is noted, once a minute, so that one in no use ends."""
    with services(app).database.writing() as session:  # one whose trainer is lost, and a version that lacks everything
        session.get(Run, 1).state = "running"
    if who == "an administrator":
        assert sign_in(client).status_code == 303
    headers = SCRIPT if who == "a script" else BROWSER
    before = everything(app)
    for address in [address for address, answers_get in addresses.items() if answers_get]:
        with client.get(address, headers=headers) as got:
            head = client.head(address, headers=headers)
            assert (head.status_code, head.data) == (got.status_code, b""), address
    assert everything(app) == before


@pytest.mark.parametrize("headers", [{}, SCRIPT], ids=["anybody", "a script"])
def test_options_changes_nothing_and_tells_the_methods(app, client, addresses, headers):
    before = everything(app)
    for address, answers_get in addresses.items():
        options = client.options(address, headers=headers, data={"password": PASSWORD})
        assert options.status_code == 200 and ("GET" in options.allow) == ("HEAD" in options.allow) == answers_get
    assert everything(app) == before
