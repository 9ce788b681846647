"""The dashboard in a browser: from the first start to a value, an alert, and an outage."""

import json
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from browser import CHROMIUM, Page, browser, until
from dashboard import PASSWORD, closed, fill, live, opened, press, shows, told
from server import ServerProcess, ServerThread

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
# Beside one with daylight saving: one that is half an hour off, and one that is a day ahead.
ZONES = ("America/New_York", "Asia/Kolkata", "Pacific/Auckland")
RULE = {"name": "Too hot", "condition": {"attribute": "temperature", "above": 30}}
SIZES = [(width, theme) for width in (1440, 360) for theme in ("light", "dark")]


def story(page: Page, server: ServerThread, look=lambda _name: None) -> None:
    shows(page, "Welcome to Heliograph")
    look("first start")
    # The admin key does what the printed code does.
    key = server.http.headers["x-api-key"]
    fill(page, Setup_code_or_admin_key=key, User_name="ada", Password=PASSWORD)
    press(page, "Make the administrator")
    shows(page, "Networks", "default")
    press(page, "New network")
    opened(page)
    look("new network")
    fill(page, Name="greenhouse")
    press(page, "Make the network")
    shows(page, "Networks", "greenhouse")
    look("networks")
    press(page, "greenhouse")
    shows(page, "greenhouse", "No sensors in this network yet")
    look("no sensors")
    (network,) = (
        each["network_identifier"]
        for each in server.http.get("/networks").json()
        if each["network_name"] == "greenhouse"
    )
    body = {"device_id": "tomatoes-1", "network_identifier": network}
    device = server.http.post("/devices", json=body).json()
    page("location.reload()")
    shows(page, "greenhouse", "tomatoes-1")
    look("sensors")
    press(page, "tomatoes-1")
    shows(page, "tomatoes-1", "No values yet")
    live(page)
    # It appears without being asked for.
    send(server, device["api_key"], 22.5)
    shows(page, "tomatoes-1", "22.5")
    look("sensor")
    raise_alert(page, server, network, device["api_key"], look)
    press(page, "ada")
    shows(page, "Account", "may do everything")
    look("account")
    press(page, "Log out")
    shows(page, "Log in")
    look("log in")
    # What somebody was sent is what they see once they are logged in.
    page(f"location.href = '/dashboard/networks/{network}?text=toma'")
    until(lambda: page("location.search") == "?text=toma")
    shows(page, "Log in")
    fill(page, User_name="ada", Password=PASSWORD)
    press(page, "Log in")
    shows(page, "greenhouse", "tomatoes-1")
    assert page("location.search") == "?text=toma"


def send(server: ServerThread | ServerProcess, key: str, temperature: float) -> None:
    reading = {"device_id": "tomatoes-1", "temperature": temperature}
    sent = server.http.post("/ingest", json=reading, headers={"x-api-key": key})
    assert sent.status_code == 201


def raise_alert(page: Page, server: ServerThread, network: str, key: str, look) -> None:
    rule = {**RULE, "network_identifier": network, "actions": [{"type": "alert"}]}
    assert server.http.post("/rules", json=rule).status_code == 201
    press(page, "Alerts")
    shows(page, "Alerts", "Nothing is wrong")
    look("no alerts")
    live(page)
    send(server, key, 41)
    shows(page, "Alerts", "Too hot")
    press(page, "Silence")
    opened(page)
    look("silence an alert")
    press(page, "Begin")
    closed(page)
    press(page, "Acknowledge")
    opened(page)
    fill(page, Comment="The vents are stuck")
    press(page, "Acknowledge")
    shows(page, "Alerts", "Acknowledged by ada: The vents are stuck")
    look("alerts")
    press(page, "Clear")
    opened(page)
    press(page, "Clear")
    shows(page, "Alerts", "Nothing is wrong")
    press(page, "Past")
    shows(page, "Alerts", "Too hot")
    press(page, "Silences")
    shows(page, "Silences", "tomatoes-1")
    look("silences")


def test_from_the_first_start_to_a_value(tmp_path):
    with ServerThread(tmp_path) as server:
        url = str(server.http.base_url)
        with browser() as opened, opened(f"{url}/dashboard/") as page:
            page.watch()
            story(page, server)
            assert page("document.cookie") == ""
            assert page.errors == []
            # Nothing is blank without the server, and nothing is lost.
            server.stop()
            shows(page, "greenhouse", "The server can\u2019t be reached")
            assert "tomatoes-1" in told(page)


@pytest.mark.long
def test_a_page_outlives_the_servers_restart_and_tells_times_with_their_zone(tmp_path):
    with ServerProcess(tmp_path) as server:
        http, url = server.http, server.url
        key = http.headers["x-api-key"]
        account = {"username": "ada", "password": PASSWORD}
        assert http.post("/setup", json={**account, "code": key}).status_code == 201
        device = server.device("tomatoes-1")
        network = http.get("/sensors/tomatoes-1").json()["network_identifier"]
        with browser() as opened, opened(f"{url}/dashboard/networks/{network}") as page:
            fill(page, User_name="ada", Password=PASSWORD)
            press(page, "Log in")
            shows(page, "default", "tomatoes-1")
            page("window.isTheSame = true")
            server.kill()
            shows(page, "default", "The server can\u2019t be reached")
            assert "tomatoes-1" in told(page)
            server.start()
            until(lambda: "reached" not in told(page))
            live(page)
            send(server, device.key, 23.5)
            shows(page, "default", "23.5")
            assert page("window.isTheSame")
            rule = {**RULE, "network_identifier": network, "actions": [{"type": "alert"}]}
            assert http.post("/rules", json=rule).status_code == 201
            send(server, device.key, 41)
            (alert,) = until(lambda: http.get("/alerts").json())
            raised = datetime.fromisoformat(alert["raised_at"])
            for zone in ZONES:
                page.command("Emulation.setTimezoneOverride", timezoneId=zone)
                page(f"location.href = '/dashboard/alerts/{alert['id']}'")
                local = raised.astimezone(ZoneInfo(zone))
                shows(page, "Too hot", f"{local:%b} {local.day}, {local:%Y, %H:%M:%S} ")
                name = page(
                    "Intl.DateTimeFormat('en', {timeZoneName: 'short'})"
                    f".formatToParts({raised.timestamp() * 1000}).at(-1).value"
                )
                assert f"{local:%H:%M:%S} {name}" in told(page)


@pytest.mark.long
@pytest.mark.skipif(not AXE.exists(), reason="scripts/dashboard has installed nothing here")
def test_every_page_is_accessible_and_fits(tmp_path):
    axe = AXE.read_text()
    found = []

    def look(name: str) -> None:
        page(axe)
        for width, theme in SIZES:
            page.show(width, theme)
            if page.overflows():
                found.append((name, width, theme, "too wide"))
            told = page("axe.run().then((result) => JSON.stringify(result.violations))")
            found.extend(
                (name, width, theme, each["id"], [node["html"] for node in each["nodes"]])
                for each in json.loads(told)
                if each["impact"] in ("serious", "critical")
            )
        page.show(1440, "light")

    with ServerThread(tmp_path) as server:
        url = str(server.http.base_url)
        with browser() as opened, opened(f"{url}/dashboard/") as page:
            page.watch()
            story(page, server, look)
            assert found == []
            assert page.errors == []
