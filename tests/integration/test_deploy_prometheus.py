"""Alerts and dashboards name what a server tells that has been used, and the guide lists it all."""

import asyncio
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mqtt_client import Client, subscribe
from promql import named
from scripted_broker import scripted_broker
from server import running

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/heliograph.rules.yml"
DASHBOARD = json.loads((ROOT / "deploy/grafana/heliograph-server.json").read_text("utf-8"))
# Of Prometheus itself: of what it scrapes, and from where.
OF_SCRAPES = {"job", "instance"}
SECONDS = 300


def alerts():
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]:
        yield from group["rules"]


def targets():
    for panel in DASHBOARD["panels"]:
        yield from panel.get("targets", ())


def expressions():
    return [each["expr"] for each in (*alerts(), *targets())]


async def _told(folder):
    async with (
        scripted_broker() as broker,
        running(folder, mqtt_url=broker.url, anonymous_role="viewer") as here,
    ):
        pump = await here.device("pump")
        reading = {"device_id": "pump", "t": 1, "timestamp": 1_700_000_000}
        for body in (reading, reading, {"device_id": "pump"}):
            await here.http.post("/ingest", json=body)
        assert (await here.http.get("/readyz")).status_code == 503  # the broker is not up
        await here.http.get("/ping", headers={"host": "another.example.org"})
        assert (await here.http.get("/nothing")).status_code == 404
        with pytest.raises(AssertionError, match="refused"):
            await Client.connected(here.port, "thief", "pump", "wrong")
        client = await here.connect(pump)
        client.send(subscribe("x" * 1_000))
        assert (await client.packet())[0] == 0x90  # SUBACK
        await client.close()
        return (await here.http.get("/metrics")).text


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return asyncio.run(_told(tmp_path_factory.mktemp("metrics")))


@pytest.fixture(scope="module")
def families(told):
    return list(text_string_to_metric_families(told))


@pytest.fixture(scope="module")
def series(families):
    """Return by each name its labels with the values that were told."""
    found = {"up": {}}
    for sample in (sample for family in families for sample in family.samples):
        labels = found.setdefault(sample.name, {})
        for label, value in sample.labels.items():
            labels.setdefault(label, set()).add(value)
    return found


def test_what_is_named_is_told(series):
    for expression in expressions():
        names = named(expression)
        assert names.selectors, expression
        told = set(OF_SCRAPES)
        for selector in names.selectors:
            assert selector.metric in series, expression
            labels = series[selector.metric]
            told |= set(labels)
            for label, (operator, value) in selector.matchers.items():
                if label in OF_SCRAPES:
                    continue
                assert label in labels, expression
                if operator in ("=", "!="):
                    assert value in labels[label], expression
        assert names.labels <= told, expression


def test_legends_name_labels_that_are_left(series):
    for target in targets():
        names = named(target["expr"])
        left = names.labels or OF_SCRAPES.union(*(series[each.metric] for each in names.selectors))
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= left, target["expr"]


def test_counters_are_asked_for_their_growth_and_nothing_else_is(families):
    kinds = {
        sample.name: family.type == "gauge" for family in families for sample in family.samples
    }
    for expression in expressions():
        for selector in named(expression).selectors:
            growth = re.search(rf"(rate|increase)\({selector.metric}\b", expression)
            assert (growth is None) == kinds.get(selector.metric, True), expression


def test_panels_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        x, y, width, height = (panel["gridPos"][each] for each in "xywh")
        places = {(column, row) for column in range(x, x + width) for row in range(y, y + height)}
        assert x + width <= 24
        assert not places & taken, panel["title"]
        taken |= places
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)


def test_what_is_provisioned_is_there():
    folder = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/heliograph.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((folder / "dashboards/heliograph.yaml").read_text())["providers"]
    readme = (ROOT / "deploy/grafana/README.md").read_text()
    assert source["type"] == DASHBOARD["templating"]["list"][0]["query"] == "prometheus"
    assert provider["options"]["path"] in readme
    for name in re.findall(r"[\w/-]+\.(?:json|yaml)", readme):
        assert (ROOT / "deploy/grafana" / name).exists() or (ROOT / name).exists(), name


def test_the_guide_lists_each_metric_with_its_kind_and_labels(families, told):
    page = (ROOT / "docs/guide/metrics.md").read_text("utf-8")
    listed = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.+) \|$", page, re.MULTILINE)
    described = dict(re.findall(r"^# HELP (\w+) (.+)$", told, re.MULTILINE))
    expected = {}
    for family in families:
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = family.name + ("_total" if family.type == "counter" else "")
        expected[name] = (family.type, ", ".join(f"`{label}`" for label in sorted(labels)))
    assert {name: (kind, labels) for name, kind, labels, _ in listed} == expected
    for name, _, _, text in listed:
        unlinked = re.sub(r"\[(.+?)\]\(.+?\)", r"\1", text)
        assert name.startswith("process_") or unlinked == described[name]


def test_the_guide_names_no_other_metric(families):
    names = {each.name + ("_total" if each.type == "counter" else "") for each in families}
    documented = {
        name
        for page in (ROOT / "docs").glob("**/*.md")
        for name in re.findall(r"`(heliograph_\w+[a-z])\b", page.read_text("utf-8"))
    }
    assert len(documented) > 20
    assert documented - {"heliograph_session"} <= names


@pytest.fixture(scope="module")
def promtool():
    """Return Prometheus' own checker, installed if it is missing: 94 MiB."""
    if shutil.which("promtool") is None:
        install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", "prometheus")
        for command in (("apt-get", "update", "-qq"), install):
            subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    return "promtool"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.uncovered
def test_prometheus_takes_the_alerts_and_raises_them_when_it_should(promtool):
    status, said = run(promtool, "check", "rules", str(RULES))
    assert status == 0, said
    assert f"{len(list(alerts()))} rules found" in said
    status, said = run(promtool, "test", "rules", str(RULES.with_name("heliograph.tests.yml")))
    assert status == 0, said


@pytest.mark.long
@pytest.mark.uncovered
def test_prometheus_takes_what_the_dashboard_asks(promtool, tmp_path):
    rules = [
        {"record": f"asked:{number}", "expr": target["expr"].replace("$__rate_interval", "5m")}
        for number, target in zip(itertools.count(), targets(), strict=False)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    status, said = run(promtool, "check", "rules", str(file))
    assert status == 0, said


def test_each_alert_has_a_test():
    tests = yaml.safe_load(RULES.with_name("heliograph.tests.yml").read_text("utf-8"))["tests"]
    raised, quiet = set(), set()
    for case in (case for test in tests for case in test["alert_rule_test"]):
        (raised if case.get("exp_alerts") else quiet).add(case["alertname"])
    assert raised == quiet == {each["alert"] for each in alerts()}
