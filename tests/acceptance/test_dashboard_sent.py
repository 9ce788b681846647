"""What is given to others: a view's URL, in any time zone, and CSV, which is imported again."""

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from browser import CHROMIUM, browser, until
from dashboard import PASSWORD, fill, go, press, shows, sign_in, told
from server import ServerThread

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

# Clocks of Europe were set back at one of these hours, those of America a week later.
BEGIN, HOURS = datetime(2026, 10, 24, 22, tzinfo=UTC), 7
ZONES = {
    "UTC": ["22:00", "23:00", "00:00", "01:00", "02:00", "03:00", "04:00", "05:00"],
    "Europe/Berlin": ["00:00", "01:00", "02:00", "02:00", "03:00", "04:00", "05:00", "06:00"],
    "America/New_York": ["18:00", "19:00", "20:00", "21:00", "22:00", "23:00", "00:00", "01:00"],
}
# What a chart writes, in the order in which it does.
WRITTEN = """window.written = []; const write = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
  if (/^\\d\\d:\\d\\d$/.test(text)) window.written.push(text);
  return write.call(this, text, ...rest);
};"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return a server with what the sensor clock-1 of ada's network measured each five minutes."""
    with ServerThread(tmp_path_factory.mktemp("sent")) as server:
        code = server.http.headers["x-api-key"]
        account = {"username": "ada", "password": PASSWORD}
        assert server.http.post("/setup", json={**account, "code": code}).status_code == 201
        server.network = server.http.post("/networks", json={"network_name": "tower"}).json()[
            "network_identifier"
        ]
        device = {"device_id": "clock-1", "network_identifier": server.network}
        assert server.http.post("/devices", json=device).status_code == 201
        readings = [
            {"device_id": "clock-1", "timestamp": BEGIN.timestamp() + 300 * step, "swing": step}
            for step in range(12 * HOURS)
        ]
        sent = server.http.post("/ingest/batch", json={"readings": readings})
        assert sent.status_code == 201
        yield server


@pytest.fixture
def view(server):
    end = BEGIN.timestamp() + 3_600 * HOURS
    return (
        f"{server.http.base_url}/dashboard/networks/{server.network}/sensors/clock-1?range=24h"
        f"&from={BEGIN:%Y-%m-%dT%H:%M:%SZ}&to={datetime.fromtimestamp(end, UTC):%Y-%m-%dT%H:%M:%SZ}"
    )


@contextlib.contextmanager
def session(server, zone="UTC"):
    with browser(zone) as start, start(f"{server.http.base_url}/dashboard/") as page:
        page.watch()
        page.show(1440, "light")
        page.command("Page.enable")
        page.command("Page.addScriptToEvaluateOnNewDocument", source=WRITTEN)
        yield page
        assert page.errors == []


@pytest.mark.parametrize("own", ZONES)
def test_a_view_that_is_sent_shows_the_same_to_whoever_opens_it_in_any_zone(server, view, own):
    with session(server, own) as page:
        # Somebody was sent it who is not logged in.
        go(page, f"{view}&zone=Europe/Berlin")
        fill(page, User_name="ada", Password=PASSWORD)
        press(page, "Log in")
        for zone, expected in (("Europe/Berlin", ZONES["Europe/Berlin"]), (None, ZONES[own])):
            if zone is None:
                go(page, view)
            until(lambda expected=expected: page("window.written.slice(-8)") == expected)
            until(lambda: "83" in told(page, ".summary tbody"))


def test_a_csv_file_that_was_downloaded_is_imported_again_and_nothing_is_there_twice(
    server, view, tmp_path
):
    with session(server) as page:
        sign_in(page, "ada")
        page.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        go(page, view)
        # Before the chart is read: the file has all of it.
        press(page, "CSV")
        file = Path(until(lambda: next(tmp_path.glob("*.csv"), None)))
        assert len(file.read_text().splitlines()) == 12 * HOURS + 1

        copy = {"device_id": "clock-2", "network_identifier": server.network}
        assert server.http.post("/devices", json=copy).status_code == 201

        def history(sensor):
            rows = server.http.get(f"/sensors/{sensor}/measurements?limit=1000").json()
            return [(row["creation_timestamp"], row["measurement"]) for row in rows]

        for stored in ("84 stored, 0 were there", "0 stored, 84 were there"):
            go(page, f"{server.http.base_url}/dashboard/networks/{server.network}/import")
            shows(page, "tower", "Drop a CSV file here")
            put(page, file)
            fill(page, Sensor="clock-2")
            press(page, "Store 84 rows")
            until(lambda told_at=stored: told_at in told(page))
        assert history("clock-2") == history("clock-1")


def test_a_file_that_is_longer_than_a_request_is_imported_in_pieces(server, tmp_path):
    rows, begin = 30_000, 1_700_000_000
    table = "".join(
        f"{datetime.fromtimestamp(begin + row, UTC):%Y-%m-%dT%H:%M:%SZ},{row}.125,as long as this\n"
        for row in range(rows)
    )
    file = tmp_path / "long.csv"
    file.write_text(f"time,level,note\n{table}")
    assert file.stat().st_size > 1_200_000
    tank = {"device_id": "tank-1", "network_identifier": server.network}
    assert server.http.post("/devices", json=tank).status_code == 201
    with session(server) as page:
        sign_in(page, "ada")
        go(page, f"{server.http.base_url}/dashboard/networks/{server.network}/import")
        shows(page, "tower", "Drop a CSV file here")
        put(page, file)
        fill(page, Sensor="tank-1")
        press(page, "Store the whole file")
        until(
            lambda: f"{rows:,} stored, 0 were there already, 0 refused. That is all." in told(page)
        )
    [newest] = server.http.get("/sensors/tank-1/measurements?limit=1").json()
    assert newest["creation_timestamp"] == begin + rows - 1
    assert newest["measurement"]["level"] == rows - 1 + 0.125


# A level in the third piece of three that is a text beside numbers, and one where all are texts.
OTHER = {
    "('full' in line 1902)": [1_900],
    "Line 1801: level is text here, and was number before": range(1_799, 2_000),
}


@pytest.mark.parametrize("said", OTHER)
def test_a_piece_in_which_a_column_is_of_another_kind_is_told_by_its_line(server, tmp_path, said):
    def row(number):
        time = datetime.fromtimestamp(1_700_000_000 + number, UTC)
        # A text stays a text where it looks like a number; a number does not become a text.
        level = "full" if number in OTHER[said] else number
        note = f"{'n' if number < 500 else ''}{number}"
        return f"{time:%Y-%m-%dT%H:%M:%SZ},{level},{note},".ljust(999, "-")

    file = tmp_path / "other.csv"
    file.write_text("\n".join(["time,level,note,filling", *map(row, range(2_000))]) + "\n")
    name = f"other-{len(OTHER[said])}"
    tank = {"device_id": name, "network_identifier": server.network}
    assert server.http.post("/devices", json=tank).status_code == 201
    with session(server) as page:
        sign_in(page, "ada")
        go(page, f"{server.http.base_url}/dashboard/networks/{server.network}/import")
        shows(page, "tower", "Drop a CSV file here")
        put(page, file)
        fill(page, Sensor=name)
        press(page, "Store the whole file")
        until(lambda: said in told(page))
        assert "1,799 stored, 0 were there already, 0 refused" in told(page)
    [newest] = server.http.get(f"/sensors/{name}/measurements?limit=1").json()
    assert newest["measurement"]["note"] == "1798"


def put(page, file):
    """Choose a file in the page's field for one."""
    root = page.command("DOM.getDocument")["root"]["nodeId"]
    found = page.command("DOM.querySelector", nodeId=root, selector="input[type=file]")
    page.command("DOM.setFileInputFiles", nodeId=found["nodeId"], files=[str(file)])
