"""Pages of alerts, of the system and of members, clicked through as an administrator does."""

import http.server
import threading
import time

import pytest

from browser import CHROMIUM, browser, until
from dashboard import (
    PASSWORD,
    closed,
    enter,
    fill,
    forgive,
    go,
    live,
    opened,
    press,
    shows,
    sign_in,
    told,
)
from server import ServerThread

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return a server whose administrator is ada, with an account more."""
    with ServerThread(tmp_path_factory.mktemp("alerts"), webhook_allow="127.0.0.1") as server:
        account = {"username": "ada", "password": PASSWORD}
        code = server.http.headers["x-api-key"]
        assert server.http.post("/setup", json={**account, "code": code}).status_code == 201
        account = {"username": "grace", "password": PASSWORD}
        assert server.http.post("/users", json=account).status_code == 201
        yield server


@pytest.fixture(scope="module")
def page(server):
    with browser() as start, start(f"{server.http.base_url}/dashboard/") as page:
        page.watch()
        page.show(1440, "light")
        sign_in(page, "ada")
        yield page
        assert page.errors == []


@pytest.fixture(scope="module")
def network(server):
    made = server.http.post("/networks", json={"network_name": "orchard"})
    return made.json()["network_identifier"]


@pytest.fixture
def visit(server, page):
    def visit(path):
        go(page, f"{server.http.base_url}/dashboard{path}")

    return visit


class Posted(list):
    """The paths that were posted to, as it happened."""

    url = ""


@pytest.fixture(scope="module")
def hooks():
    """Return what takes messages at `url`, and refuses them at its `/gone`."""

    posted = Posted()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            posted.append(self.path)
            self.send_response(410 if self.path == "/gone" else 204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, name="hooks")
        thread.start()
        posted.url = f"http://127.0.0.1:{served.server_port}"
        yield posted
        served.shutdown()
        thread.join()


def test_a_rule_is_made_and_tried_and_its_alert_looked_after(server, page, network, visit):
    body = {"device_id": "press-1", "network_identifier": network, "tags": ["metal"]}
    assert server.http.post("/devices", json=body).status_code == 201

    def send(value, ago=0.0):
        reading = {"device_id": "press-1", "timestamp": time.time() - ago, "bar": value}
        assert server.http.post("/ingest", json=reading).status_code == 201

    for minutes, value in ((50, 4), (40, 9), (30, 4.5), (20, 4)):
        send(value, 60 * minutes)
    visit("/alerts/rules")
    shows(page, "Rules", "No rules yet")
    press(page, "New rule")
    shows(page, "New rule", "Try it first")
    enter(page, "Network", "orchard")
    until(lambda: page("[...document.querySelectorAll('datalist option')][0]?.value") == "bar")
    fill(page, Name="Bursts", Attribute="bar", Number="8", Clears_below="5", Sensors="press-1")
    press(page, "Try it")
    shows(page, "New rule", "Raises once")
    until(lambda: page("document.querySelector('.drawing img')?.naturalWidth > 0"))
    # What the server refuses is said beside its field.
    enter(page, "Number", "very high")
    press(page, "Make the rule")
    until(lambda: "above" in told(page, ".notice-error"))
    forgive(page, 422)
    enter(page, "Number", "8")
    press(page, "Make the rule")
    shows(page, "Bursts", "In use")
    [rule] = server.http.get("/rules").json()
    assert rule["condition"] == {"attribute": "bar", "above": 8, "clear_below": 5}
    enter(page, "Severity", "Critical")
    press(page, "Save")
    shows(page, "Bursts", "Saved. It counts from now on.")

    visit("/alerts")
    shows(page, "Alerts", "Nothing is wrong")
    live(page)
    send(9.5)
    shows(page, "Alerts", "Bursts")
    enter(page, "Search by sensor or rule", "tomato")
    shows(page, "Alerts", "No alert matches")
    enter(page, "Search by sensor or rule", "PRESS")
    press(page, "Acknowledge")
    opened(page)
    fill(page, Comment="The valve is being turned")
    press(page, "Acknowledge")
    closed(page)
    shows(page, "Alerts", "Acknowledged by ada: The valve is being turned")
    press(page, "Bursts")
    shows(page, "Bursts", "Critical")
    shows(page, "Bursts", "Acknowledged by ada: The valve is being turned")
    press(page, "Silence")
    opened(page)
    fill(page, For="2 hours", Comment="Until the valve is turned")
    press(page, "Begin")
    closed(page)
    until(lambda: server.http.get("/silences").json())
    press(page, "Clear")
    opened(page)
    press(page, "Clear")
    closed(page)
    shows(page, "Bursts", "Cleared by ada")
    visit("/alerts?state=past")
    shows(page, "Alerts", "Bursts")

    press(page, "Silences")
    shows(page, "Silences", "Until the valve is turned")
    shows(page, "Silences", "Sensor press-1")
    press(page, "End")
    opened(page)
    press(page, "End")
    closed(page)
    shows(page, "Silences", "Nothing is silenced")
    press(page, "New silence")
    opened(page)
    enter(page, "Network", "orchard")
    fill(page, Tag="metal", Start="In 1 day", Comment="Maintenance")
    press(page, "Begin")
    closed(page)
    shows(page, "Silences", "planned")
    shows(page, "Silences", "Tag metal")

    visit("/alerts/rules")
    shows(page, "Rules", "bar above 8")
    enter(page, "Search by name or condition", "nothing like it")
    shows(page, "Rules", "No rule matches")
    enter(page, "Search by name or condition", "BAR above")
    press(page, "Take out of use")
    shows(page, "Rules", "Put into use")
    until(lambda: not server.http.get("/rules").json()[0]["enabled"])
    press(page, "Put into use")
    shows(page, "Rules", "Take out of use")
    press(page, "Delete")
    opened(page)
    press(page, "Delete")
    shows(page, "Rules", "No rules yet")


def test_alerts_that_come_or_clear_move_nothing_that_is_shown(server, page, network, visit):
    body = {"name": "Leak", "condition": {"attribute": "wet", "equals": True}}
    body |= {"network_identifier": network, "actions": [{"type": "alert"}]}
    assert server.http.post("/rules", json=body).status_code == 201

    def leak(name):
        body = {"device_id": name, "network_identifier": network}
        assert server.http.post("/devices", json=body).status_code == 201
        reading = {"device_id": name, "wet": True}
        assert server.http.post("/ingest", json=reading).status_code == 201

    def places():
        script = """[...document.querySelectorAll("main .row")].map((row) =>
          [row.querySelector(".row-facts a").textContent, row.getBoundingClientRect().top])"""
        return page(script)

    leak("cellar-1")
    visit("/alerts")
    live(page)
    shows(page, "Alerts", "cellar-1")
    before = places()
    for number in (2, 3, 4):
        leak(f"cellar-{number}")
    shows(page, "Alerts", "Show 3 new alerts")
    assert places() == before
    press(page, "Show 3 new alerts")
    until(lambda: len(places()) == 4)
    before = places()
    [alert] = server.http.get("/alerts?sensor=cellar-3").json()
    assert server.http.post(f"/alerts/{alert['id']}/clear").status_code == 200
    until(lambda: "Cleared" in told(page))
    assert places() == before
    # What one has cleared oneself goes at once.
    page("[...document.querySelectorAll('main .row button')].at(-1).click()")
    opened(page)
    press(page, "Clear")
    closed(page)
    until(lambda: len(places()) == 3)


@pytest.mark.long
def test_a_channel_is_made_and_tested_and_what_failed_is_run_again(
    server, page, network, visit, hooks
):
    visit("/alerts/channels")
    shows(page, "Channels", "Nobody is told of alerts yet")
    press(page, "New channel")
    opened(page)
    fill(page, Name="Chat", Network="orchard", Kind="Webhook")
    fill(page, URL=f"{hooks.url}/room?key=secret")
    press(page, "Make the channel")
    closed(page)
    shows(page, "Channels", "Chat")
    assert "secret" not in told(page)
    press(page, "Send a test")
    shows(page, "Channels", "The test was delivered.")
    assert len(hooks) == 1
    press(page, "Chat")
    opened(page)
    fill(page, Name="Chat room")
    press(page, "Save")
    closed(page)
    shows(page, "Channels", "Chat room")
    # Its secret has stayed.
    press(page, "Send a test")
    until(lambda: len(hooks) == 2)

    body = {
        "name": "Any",
        "network_identifier": network,
        "condition": {"attribute": "bar", "above": 0},
        "match": {"sensors": ["press-2"]},
        "actions": [
            {"type": "webhook", "on": "raised", "url": f"{hooks.url}/{path}"}
            for path in ("done", "gone")
        ],
    }
    device = {"device_id": "press-2", "network_identifier": network}
    assert server.http.post("/devices", json=device).status_code == 201
    assert server.http.post("/rules", json=body).status_code == 201
    assert server.http.post("/ingest", json={"device_id": "press-2", "bar": 1}).status_code == 201
    until(lambda: len(hooks) == 4)
    visit("/alerts/actions")
    shows(page, "Actions", "Nothing has failed")
    enter(page, "State", "Pending")

    def reads_again():
        # The server keeps what came of an action after the hook has answered.
        press(page, "Read again")
        return "410" in told(page)

    until(reads_again)
    enter(page, "State", "Done")
    shows(page, "Actions", "Repeat")
    press(page, "Repeat")
    until(lambda: hooks.count("/done") == 2)

    visit("/alerts/channels")
    shows(page, "Channels", "Chat room")
    press(page, "Delete")
    opened(page)
    press(page, "Delete")
    shows(page, "Channels", "Nobody is told of alerts yet")


@pytest.mark.long
def test_members_are_added_and_what_was_done_stands_in_the_audit_log(server, page, network, visit):
    def roles():
        return [each["role"] for each in server.http.get(f"/networks/{network}/members").json()]

    visit(f"/networks/{network}/settings")
    shows(page, "orchard", "has no members")
    fill(page, User_name="nobody")
    press(page, "Add the member")
    until(lambda: "User not found" in told(page, ".notice-error"))
    forgive(page, 404)
    fill(page, User_name="grace", Role="Editor: also adds sensors and configures")
    press(page, "Add the member")
    role = "document.querySelector('.members select')"
    until(lambda: page(f"{role}?.value") == "editor")
    page(f"{role}.value = 'viewer'; {role}.dispatchEvent(new Event('change', {{bubbles: true}}))")
    # A page that is left gives up what it sends.
    until(lambda: "viewer" in roles())
    visit("/system/audit")
    shows(page, "Audit", "editor → viewer")
    enter(page, "What (name or id)", "grace")
    enter(page, "Action", "member: create")
    until(lambda: page("document.querySelectorAll('.row-audit').length") == 1)
    assert page("location.search") == "?resource=grace&action=member.create"
    visit(f"/networks/{network}/settings")
    until(lambda: page(f"{role}?.value") == "viewer")
    press(page, "Remove")
    shows(page, "orchard", "has no members")


@pytest.mark.long
def test_the_system_and_retention_tell_how_it_is_and_take_other_days(server, page, network, visit):
    visit("/system")
    shows(page, "System", "is taken")
    until(lambda: page("document.querySelectorAll('main .row').length") > 3)
    press(page, "Retention")
    shows(page, "Retention", "orchard")
    row = "[...document.querySelectorAll('tr')].find((row) => row.textContent.includes('orchard'))"
    page(f"{row}.querySelector('button').click()")
    opened(page)
    until(lambda: "Measurements, days" in told(page, "dialog"))
    enter(page, "Measurements, days", "30")
    until(lambda: "With these days the next run removes" in told(page, "dialog"))
    press(page, "Save")
    closed(page)
    until(lambda: "30 days" in (page(f"{row}?.textContent") or ""))
    assert server.http.get(f"/networks/{network}/retention").json()["raw_days"] == 30


@pytest.mark.long
def test_nothing_is_offered_in_a_network_that_is_not_there(page, visit):
    visit("/networks/102ebc56-edb9-42be-aec0-15a6c1075c7e")
    until(lambda: told(page, "h1") == "Page not found")
    assert "Add a sensor" not in told(page)
    # Its stream is refused once, and is not asked for again: what concerns people is followed.
    asked = "performance.getEntriesByType('resource').map((entry) => entry.name).join()"
    until(lambda: "/api/v1/streams/" in page(asked))
    live(page)
    forgive(page, 404)
