"""Pages of a network and of a sensor: what is sent appears, and what is looked for is found."""

import json
import re
import subprocess
import time

import pytest

from browser import CHROMIUM, SHIFTED, browser, until
from dashboard import (
    PRESS,
    closed,
    drag,
    enter,
    fill,
    forgive,
    go,
    live,
    opened,
    press,
    shows,
    told,
)
from server import ServerThread

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

LOG_IN = """fetch("/api/v1/users", {method: "POST", headers: {"content-type": "application/json"},
  body: JSON.stringify({username: "ada", password: "Nine-lanterns-at-dawn", cookie: true})})
  .then((answer) => answer.status)"""
NAMES = "[...document.querySelectorAll('.rows-body .row-link')].map((link) => link.textContent)"
CHOOSE = """((label, value) => {
  const labelled = [...document.querySelectorAll("label")]
    .find((each) => each.textContent.startsWith(label));
  const control = labelled?.querySelector("input, select");
  if (!control) return false;
  control.value = value;
  for (const name of ["input", "change"]) control.dispatchEvent(new Event(name, {bubbles: true}));
  return true;
})"""
# Answers as those that lack what damaged chunks have.
DAMAGE = """window.asked = window.fetch; window.fetch = async (request) => {
  const answer = await window.asked(request);
  return new Response(answer.body, {status: answer.status, headers:
    {"content-type": "application/json", "x-damaged-chunks": "17"}});
}; 1"""
SENSORS = 300
# The second of them, below the heading.
ROW = '[aria-rowindex="3"]'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return a server with a network of many sensors, and the network's identifier."""
    with ServerThread(tmp_path_factory.mktemp("network"), allow_signup=True) as server:
        yield server


@pytest.fixture(scope="module")
def page(server):
    """Return a page in which somebody has just signed up."""
    with browser() as opened, opened(f"{server.http.base_url}/dashboard/") as page:
        page.watch()
        page.show(1440, "light")
        assert page(LOG_IN) == 201
        yield page
        assert page.errors == []


@pytest.fixture(scope="module")
def network(server, page):
    body = json.dumps({"network_name": "orchard"})
    made = page(
        'fetch("/api/v1/networks", {method: "POST", headers: {"content-type":'
        f" \"application/json\"}}, body: '{body}'}}).then((answer) => answer.json())"
    )
    return made["network_identifier"]


@pytest.fixture
def visit(server, page):
    def visit(path):
        go(page, f"{server.http.base_url}/dashboard{path}")

    return visit


def again(page):
    """Open the same page anew."""
    go(page, page("location.href"))


def choose(page, label, value):
    """Choose in what has a label that begins so, as soon as it is there."""
    until(lambda: page(f"{CHOOSE}({json.dumps(label)}, {json.dumps(value)})"))


def test_what_sensors_send_appears_and_what_is_looked_for_is_found(server, page, network, visit):
    devices = [
        {
            "device_id": f"tree-{number:03}",
            "network_identifier": network,
            "tags": ["old"] if number % 2 else [],
            "attributes": {"moisture": {"unit": "%", "display_name": "Soil"}},
            "expected_interval": 3_600,
        }
        for number in range(SENSORS)
    ]
    assert server.http.post("/devices/batch", json=devices).status_code == 201
    visit(f"/networks/{network}")
    until(lambda: page(NAMES)[:2] == ["tree-000", "tree-001"])
    # Only what is in sight is drawn, and a reader of the screen is told how many there are.
    assert len(page(NAMES)) < 60
    assert page("document.querySelector('[role=table]').ariaRowCount") == str(SENSORS + 1)
    live(page)
    # No other stream was opened before, and left.
    asked = "performance.getEntriesByType('resource').map((entry) => entry.name)"
    assert [name for name in page(asked) if "/api/v1/events" in name] == []
    readings = [
        {"device_id": "tree-001", "moisture": value, "inner": {"charge": 12.3456}, "list": [1]}
        for value in (41, 42.5)
    ]
    for reading in readings:
        assert server.http.post("/ingest", json=reading).status_code == 201
    until(lambda: "42.5 %Soil12.35inner.charge" in told(page, ROW))
    until(lambda: page(f"document.querySelector('{ROW} .sparkline path') !== null"))
    choose(page, "Search", "TREE-29 old")
    until(lambda: page(NAMES) == [f"tree-29{digit}" for digit in range(1, 10, 2)])
    # The choice stands in the URL, and is there again for whoever is sent it.
    assert page("location.search") == "?text=TREE-29+old"
    page("document.querySelector('.rows-name .sort').click()")
    until(lambda: page(NAMES)[0] == "tree-299")
    again(page)
    until(lambda: page(NAMES)[:1] == ["tree-299"])
    choose(page, "Show", "late")
    until(lambda: "No sensor matches" in told(page))
    # One that is registered meanwhile appears with what it sends.
    visit(f"/networks/{network}?text=sapling")
    until(lambda: "No sensor matches" in told(page))
    live(page)
    body = {"device_id": "sapling", "network_identifier": network}
    assert server.http.post("/devices", json=body).status_code == 201
    assert server.http.post("/ingest", json={"device_id": "sapling", "t": 1}).status_code == 201
    until(lambda: page(NAMES) == ["sapling"])


def test_a_sensor_is_added_and_the_command_that_is_shown_sends_its_first_reading(
    server, page, network, visit
):
    visit(f"/networks/{network}/add")
    until(lambda: "Add the sensor" in told(page))
    fill(page, Device_id="cellar-1")
    press(page, "Add the sensor")
    until(lambda: "Waiting for the first message" in told(page))
    live(page)
    until(lambda: page("document.querySelectorAll('.copied pre').length") == 2)
    key, command = page("[...document.querySelectorAll('.copied pre')].map((p) => p.textContent)")
    # What is wrong is told with its reason.
    wrong = {"json": {"value": 1, "colour": 2}, "headers": {"x-api-key": key}}
    assert server.http.post("/sensors/cellar-1/measurements", **wrong).status_code == 201
    until(lambda: "unknown member 'colour'" in told(page, ".rejected"))
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout)["device_id"] == "cellar-1"
    until(lambda: "It has arrived" in told(page))
    until(lambda: "temperature22.5" in told(page, ".facts"))


def test_a_board_is_made_of_what_is_chosen_and_kept(server, page, network, visit):
    body = {"device_id": "press-1", "network_identifier": network, "latitude": 50, "longitude": 8}
    assert server.http.post("/devices", json=body).status_code == 201
    assert server.http.post("/ingest", json={"device_id": "press-1", "bar": 4.2}).status_code == 201

    visit(f"/networks/{network}/boards")
    until(lambda: "No boards in this network yet" in told(page))
    press(page, "New board")
    opened(page)
    fill(page, Name="Press room")
    press(page, "Make the board")
    until(lambda: "Nothing on this board yet" in told(page))
    press(page, "Add a panel")
    opened(page)
    fill(page, Kind="Newest values", Sensor="press-1")
    fill(page, Attribute="bar")
    press(page, "Save")
    until(lambda: "4.2press-1 bar" in told(page, ".board-panel"))

    def kinds():
        [board] = server.http.get(f"/networks/{network}/boards").json()
        return [panel["kind"] for panel in board["panels"]]

    until(lambda: kinds() == ["values"])
    full = f"{PRESS}('Full screen')"
    page.command("Runtime.evaluate", expression=full, userGesture=True)
    until(lambda: page("document.fullscreenElement?.className") == "wall")
    page("document.exitFullscreen().then(() => 1)")
    visit(f"/networks/{network}/map")
    until(lambda: page("document.querySelector('.map-dot button')?.ariaLabel") is not None)
    page("document.querySelector('.map-dot button').click()")
    until(lambda: "bar4.2" in told(page, ".map-card"))


def test_a_page_that_is_left_keeps_no_connection_and_misses_nothing(server, page, network, visit):
    def viewers():
        told = server.http.get("/metrics").text
        return float(re.search(r"^heliograph_live_viewers ([0-9.]+)", told, re.MULTILINE)[1])

    def shown(name):
        page(f"dispatchEvent(new PageTransitionEvent('{name}', {{persisted: true}}))")

    body = {"device_id": "pond-1", "network_identifier": network}
    assert server.http.post("/devices", json=body).status_code == 201
    visit(f"/networks/{network}?text=pond-1")
    live(page)
    until(lambda: viewers() == 1)
    # A browser keeps it for the way back, and may keep six connections to a server.
    shown("pagehide")
    until(lambda: viewers() == 0)
    assert server.http.post("/ingest", json={"device_id": "pond-1", "ph": 7.25}).status_code == 201
    shown("pageshow")
    until(lambda: "7.25" in told(page, ".rows-body"))
    live(page)


def test_a_sensors_course_is_drawn_live_and_the_url_says_what_is_shown(
    server, page, network, visit, tmp_path
):
    attributes = {"temperature": {"unit": "°C", "display_name": "Air"}}
    body = {"device_id": "loft-1", "network_identifier": network, "attributes": attributes}
    assert server.http.post("/devices", json=body).status_code == 201

    def send(value, ago=0.0):
        reading = {"device_id": "loft-1", "timestamp": time.time() - ago, "temperature": value}
        assert server.http.post("/ingest", json=reading).status_code == 201

    def tool(name):
        buttons = "[...document.querySelectorAll('.chart-tools button')]"
        named = f"(each.ariaLabel ?? each.textContent) === '{name}'"
        found = f"{buttons}.find((each) => {named} && !each.disabled)"
        until(lambda: page(f"((found) => found?.click() ?? !!found)({found})"))

    for minutes in range(29, 0, -1):
        send(20 + minutes / 8, 60 * minutes)
    # What comes before the stream is open is not told, and read.
    page.command("Fetch.enable", patterns=[{"urlPattern": "*/streams/*"}])
    # The path may hold the name that the device has.
    visit(f"/networks/{network}/sensors/loft-1?range=30m&zone=Asia/Kolkata")
    until(lambda: page("document.querySelector('.chart canvas') !== null"))
    until(lambda: "20.125" in told(page, ".summary tbody"))
    send(29.25)
    page.command("Fetch.disable")
    until(lambda: "29.25" in told(page, ".summary tbody"))
    live(page)
    send(31.75)
    until(lambda: "31.75" in told(page, ".summary tbody") and "31.75" in told(page, ".values"))
    # What is zoomed to stays while more arrives, and when the URL is opened again.
    tool("Zoom in")
    until(lambda: "31.75" not in told(page, ".summary tbody"))
    zoomed = page("location.search")
    # It says as well how the values were read, once they are.
    span = page.steady("document.querySelector('.chart-span').textContent")
    send(41)
    until(lambda: "41" in told(page, ".values .value-now"))
    again(page)
    until(lambda: told(page, ".chart-span") == span and "21" in told(page, ".summary tbody"))
    assert page("location.search") == zoomed
    assert "GMT+5:30" in span
    assert "41" not in told(page, ".summary tbody")
    tool("Back")
    until(lambda: "41" in told(page, ".summary tbody"))
    assert page(SHIFTED) < 0.1
    # What is damaged is not passed over as if nothing had been measured.
    assert "Values are missing" not in told(page)
    page(DAMAGE)
    tool("3 h")
    until(lambda: "Values are missing here" in told(page, ".notice-warning"))
    page("window.fetch = window.asked; 1")
    tool("30 min")
    until(lambda: "Values are missing" not in told(page))
    # Keys do what the mouse does.
    page("document.querySelector('.chart').focus()")
    for key, is_zoomed in (("+", True), ("ArrowLeft", True), ("Escape", False)):
        before = page("location.search")
        for kind in ("keyDown", "keyUp"):
            page.command("Input.dispatchKeyEvent", type=kind, key=key)
        until(lambda old=before: page("location.search") != old)
        assert ("from=" in page("location.search")) is is_zoomed
    page.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tool("PNG")
    file = until(lambda: next(tmp_path.glob("*.png"), None))
    assert file.read_bytes().startswith(b"\x89PNG")
    # A finger that goes up scrolls, one that goes sideways selects.
    page.show(360, "light", 600)
    page.command("Emulation.setTouchEmulationEnabled", enabled=True)
    until(lambda: page("document.querySelector('.chart canvas')?.clientWidth < 360"))
    left, top, width, _ = page.box(".u-over")
    before = page("scrollY")
    page.swipe([(left + width / 2, top + 100 + step) for step in (0, 20, 50, 90)])
    until(lambda: page("scrollY") < before)
    left, top, width, _ = page.box(".u-over")
    assert "from=" not in page("location.search")
    page.swipe([(left + part * width, top + 50) for part in (0.25, 0.4, 0.6, 0.75)])
    until(lambda: "from=" in page("location.search"))
    page.command("Emulation.setTouchEmulationEnabled", enabled=False)
    page.show(1440, "light")


def test_a_drag_over_a_chart_outlasts_what_is_measured_meanwhile(server, page, network, visit):
    body = {"device_id": "mill-1", "network_identifier": network}
    assert server.http.post("/devices", json=body).status_code == 201

    def send(**values):
        reading = {"device_id": "mill-1", **values}
        assert server.http.post("/ingest", json=reading).status_code == 201

    send(speed=1)
    visit(f"/networks/{network}/sensors/mill-1?range=5m&charts=one")
    live(page)
    until(lambda: "speed" in told(page, ".summary tbody"))
    left, top, width, _ = page.box(".u-over")
    span = page("document.querySelector('.chart-span').textContent")
    page.mouse("mousePressed", left + 0.25 * width, top + 50)
    page.mouse("mouseMoved", left + 0.5 * width, top + 50)
    # A line more makes a chart with other lines, and five minutes move by some pixels a second.
    send(speed=1_000_000, power=7)
    until(lambda: "power" in told(page, ".summary tbody"))
    until(lambda: page("document.querySelector('.chart-span').textContent") != span)
    page.mouse("mouseMoved", left + 0.75 * width, top + 50)
    page.mouse("mouseReleased", left + 0.75 * width, top + 50)
    until(lambda: "from=" in page("location.search"))
    begin, end = page(
        "['from', 'to'].map((name) => Date.parse(new URLSearchParams(location.search).get(name)))"
    )
    assert 145 < (end - begin) / 1000 < 155
    # It has caught up by then.
    until(lambda: "power, speed" in page("document.querySelector('.chart').ariaLabel"))


def test_what_a_sensor_logs_appears_and_is_chosen_by_its_severity(server, page, network, visit):
    body = {"device_id": "well-1", "network_identifier": network}
    assert server.http.post("/devices", json=body).status_code == 201
    subjects = (
        "[...document.querySelectorAll('.row-main')].map((row) => row.children[0].textContent)"
    )

    def log(severity, subject):
        message = {"device_id": "well-1", "severity": severity, "subject": subject}
        body = {"readings": [], "log_messages": [{**message, "timestamp": time.time()}]}
        assert server.http.post("/ingest/batch", json=body).status_code == 201

    log("info", "started")
    visit(f"/networks/{network}/sensors/well-1/logs")
    until(lambda: page(subjects) == ["started"])
    live(page)
    log("error", "pump blocked")
    until(lambda: page(subjects) == ["pump blocked", "started"])
    choose(page, "Severity", "error")
    until(lambda: page(subjects) == ["pump blocked"])
    assert page("document.querySelector('main table tbody').textContent").startswith("Error")


def test_a_configuration_is_changed_and_its_answer_appears(server, page, network, visit):
    body = {"device_id": "gate-1", "network_identifier": network}
    assert server.http.post("/devices", json=body).status_code == 201
    first = {"configuration": {"interval": 60}}
    assert server.http.post("/sensors/gate-1/configurations", json=first).status_code == 201

    def write(configuration):
        page(
            "((text) => { const area = document.querySelector('dialog textarea');"
            "area.value = text; area.dispatchEvent(new Event('input', {bubbles: true}));"
            f"return new Promise(requestAnimationFrame) }})('{configuration}').then(() => 1)"
        )
        page("document.querySelector('dialog form').requestSubmit()")

    visit(f"/networks/{network}/sensors/gate-1/configuration")
    until(lambda: "Revision 0" in told(page, ".row"))
    live(page)
    press(page, "Change")
    until(lambda: "60" in page("document.querySelector('dialog textarea')?.value ?? ''"))
    write("{interval: 30}")
    until(lambda: "That is not JSON" in told(page, "dialog"))
    write('{"interval": 30}')
    until(
        lambda: "Revision 1" in told(page, ".row") and "interval 60 → 30" in told(page, ".changes")
    )
    answer = {"heartbeats": [{"revision": 1, "success": True}]}
    assert server.http.post("/sensors/gate-1/heartbeats", json=answer).status_code == 201
    until(lambda: told(page, ".row .state") == "Applied")


def test_what_is_known_of_a_sensor_and_its_network_is_changed(server, page, network, visit):
    attributes = {"level": {"unit": "%"}}
    body = {"device_id": "tank-1", "network_identifier": network, "attributes": attributes}
    assert server.http.post("/devices", json=body).status_code == 201
    reading = {"device_id": "tank-1", "temperature": 8.5}
    assert server.http.post("/ingest", json=reading).status_code == 201
    visit(f"/networks/{network}/sensors/tank-1/settings")
    fill(page, Name="Rain water", Tags="roof, west", Latitude="north")
    enter(page, "temperature: unit", "°C")
    press(page, "Save")
    shows(page, "tank-1", "should be a number")
    forgive(page, 422)
    fill(page, Latitude="51,9692", Longitude="5.6654", Pack_its_old_measurements=False)
    enter(page, "Late after, seconds", "120")
    press(page, "Save")
    shows(page, "Rain water", "It is saved")
    shows(page, "Rain water", "Packed: Nothing. Packing is off")
    known = server.http.get("/sensors/tank-1").json()
    assert (known["latitude"], known["longitude"]) == (51.9692, 5.6654)
    assert (known["tags"], known["expected_interval"]) == (["roof", "west"], 120)
    units = {name: label["unit"] for name, label in known["attributes"].items()}
    assert units == {"level": "%", "temperature": "°C"}
    assert known["packing"] is False
    visit(f"/networks/{network}/settings")
    shows(page, "orchard", "Packed: Nothing yet")
    fill(page, Pack_old_measurements=False)
    press(page, "Save")
    shows(page, "orchard", "It is saved")
    assert server.http.get(f"/networks/{network}").json()["packing"] is False


def test_a_time_is_annotated_and_what_was_rejected_is_submitted_again(server, page, network, visit):
    body = {"device_id": "bore-1", "network_identifier": network}
    key = {"x-api-key": server.http.post("/devices", json=body).json()["api_key"]}
    assert server.http.post("/ingest", json={"device_id": "bore-1", "m": 4.2}).status_code == 201
    here = f"/networks/{network}/sensors/bore-1"

    def confirmed(label):
        """Press it, and in the dialog that asks again."""
        press(page, label)
        opened(page)
        press(page, label)
        closed(page)

    visit(here)
    until(lambda: "The last 28 days" in told(page) and page("!!document.querySelector('.u-over')"))
    assert told(page, ".activity").startswith("The last 28 days")
    until(lambda: page("document.querySelector('.activity [data-level=\"4\"]') !== null"))
    press(page, "Annotate")
    until(lambda: page("document.querySelector('.annotating') !== null"))
    # What is dragged over is what it is about.
    drag(page, ".u-over", 0.25, 0.75)
    until(lambda: "New annotation" in told(page, "dialog"))
    enter(page, "What is known of that time", "Pump serviced")
    press(page, "Save")
    until(lambda: "Pump serviced" in told(page, ".annotations"))
    [made] = server.http.get("/sensors/bore-1/annotations").json()
    assert made["text"] == "Pump serviced"
    # A day is shown, of which half was selected.
    length = page(f"(Date.parse('{made['end']}') - Date.parse('{made['start']}')) / 3600000")
    assert 11.5 < length < 12.5

    visit(f"{here}/access")
    confirmed("Deactivate")
    until(lambda: "what it sends is refused" in told(page, ".facts"))
    assert server.http.post("/ingest", json={"m": 5}, headers=key).status_code in (401, 403)
    server.http.post("/sensors/bore-1/measurements", json={"value": {"m": 5}})
    press(page, "Activate again")
    until(lambda: "It may send" in told(page, ".facts"))
    confirmed("End the key")
    until(lambda: "None of its own" in told(page, ".facts"))
    assert server.http.post("/ingest", json={"m": 5}, headers=key).status_code == 401
    confirmed("Make a new key")
    until(lambda: told(page, ".copied pre"))
    assert server.http.post("/ingest", json={"m": 5}, headers=key).status_code == 401
    key = {"x-api-key": told(page, ".copied pre")}
    assert server.http.post("/ingest", json={"m": 6}, headers=key).status_code == 201

    visit(f"{here}/messages?kind=rejected")
    until(lambda: "DEACTIVATED_SENSOR" in told(page))
    press(page, "Submit again")
    until(lambda: "Nothing was rejected" in told(page))

    def measured():
        rows = server.http.get("/sensors/bore-1/measurements").json()
        return [row["measurement"] for row in rows]

    until(lambda: {"m": 5} in measured())
    visit(f"{here}/heartbeats")
    until(lambda: "No heartbeat yet" in told(page))
    server.http.post("/sensors/bore-1/heartbeats", json={}, headers=key)
    until(lambda: "Sign of life" in told(page))


@pytest.mark.parametrize(
    "breaks",
    [
        "document.body.append(Object.assign(document.createElement('script'), {textContent: '1'}))",
        "document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">x</p>')",
        "new Image().src = 'https://example.org/x.png'; 1",
    ],
    ids=["script", "style", "image"],
)
def test_what_breaks_the_policy_is_an_error_of_the_page(page, visit, breaks):
    """So pages whose tests find no errors break it nowhere."""
    visit("/account")
    shows(page, "Account")
    page(f"{breaks}; 1")
    until(lambda: page("1") and page.errors)
    assert "Content Security Policy" in page.errors[0]
    page.errors.clear()
