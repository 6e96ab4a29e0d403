"""What deploy/prometheus holds fits what /metrics tells, and docs/watching.md tells of both."""

import json
import re
import subprocess
from contextlib import closing

import pytest

from tests.conftest import install, settings_in
from tests.support import servers
from tests.support.servers import found_or_skip
from webapp.app import create_app
from webapp.services import services
from webapp.settings import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
RULES = (FOLDER / "alerts.yml").read_text()
TESTS = (FOLDER / "alerts_test.yml").read_text()
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text())
PANELS = DASHBOARD["panels"]
DOCUMENT = (ROOT / "docs" / "watching.md").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)
NAME = re.compile(r"\binkling_[a-z_]+")


@pytest.fixture(scope="module")
def exposed(prepared, tmp_path_factory):
    """The names of all series of an installation with Redis."""
    folder = tmp_path_factory.mktemp("watched") / "data"
    install(prepared, folder)
    with servers.redis() as redis:
        app = create_app(settings_in(folder, REDIS_URL=redis.url))
        with closing(services(app)):
            client = app.test_client()
            client.get("/healthz")
            text = client.get("/metrics").text
    found = set()
    for name, kind in re.findall(r"^# TYPE (inkling_\w+) (\w+)$", text, re.M):
        found |= {f"{name}_{part}" for part in ("bucket", "count", "sum")} if kind == "histogram" else {name}
    return {name for name in found if not name.endswith("_created")}


def expressions(panels):
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.fixture(scope="module")
def promtool():
    """Runs promtool in deploy/prometheus."""
    (program,) = found_or_skip("prometheus", "promtool")

    def run(*arguments):
        done = subprocess.run([program, *map(str, arguments)], cwd=FOLDER, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def test_configuration_is_understood(promtool):
    promtool("check", "config", "prometheus.yml")


def test_alerts_fire_when_they_should(promtool):
    promtool("test", "rules", "alerts_test.yml")


def test_dashboard_asks_what_prometheus_understands(promtool, tmp_path):
    asked = [expr.replace("$__rate_interval", "1m") for expr in expressions(PANELS)]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(asked)]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))  # JSON is YAML
    promtool("check", "rules", path)


def test_metrics_named_are_exposed(exposed):
    for text in (RULES, TESTS, *expressions(PANELS)):
        assert set(NAME.findall(text)) <= exposed


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_is_seen_to_fire(alert):
    assert re.search(rf"alertname: {alert}\n *eval_time: \w+\n *exp_alerts:\n", TESTS)


def test_alerts_explained_are_those_of_the_rules():
    assert re.findall(r"^### (\w+)$", DOCUMENT, re.M) == ALERTS
    assert set(re.findall(r"Inkling[A-Z]\w+", json.dumps(DASHBOARD))) <= set(ALERTS)


def test_metrics_documented_are_those_exposed(exposed):
    documented = set(re.findall(r"^\| `(inkling_\w+)", DOCUMENT, re.M))
    histogram = {f"inkling_request_seconds_{part}" for part in ("bucket", "count", "sum")}
    assert documented - {"inkling_request_seconds"} | histogram == exposed


def test_dashboard_panels_ask_a_question_each_and_do_not_overlap():
    cells = set()
    for panel in PANELS:
        assert panel["title"].endswith("?") and panel["description"].endswith(".")
        place = panel["gridPos"]
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & own and max(x for x, _ in own) < 24
        cells |= own
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
