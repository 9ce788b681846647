"""The dashboard's whole story, from the code that `serve` prints to a restart under an open page.

Told four times: wide and narrow, light and dark, in a time zone each.
"""

import contextlib
import json
import re
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Self

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from browser import CHROMIUM, Page, browser, until
from dashboard import (
    PASSWORD,
    closed,
    enter,
    fill,
    live,
    opened,
    press,
    shows,
    told,
)
from program import Program
from server import ServerProcess

AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(not AXE.exists(), reason="scripts/dashboard has installed nothing here"),
]

# The width, the theme, the browser's own zone, and that of whoever is sent a view.
TOLD = [
    (1440, "light", "America/New_York", "Asia/Kolkata"),
    (360, "dark", "Asia/Kolkata", "Pacific/Auckland"),
    (360, "light", "Pacific/Auckland", "America/New_York"),
    (1440, "dark", "Europe/Berlin", "Asia/Kolkata"),
]
DROP = """((name, text) => {
  const given = new DataTransfer();
  given.items.add(new File([text], name, {type: "text/csv"}));
  document.querySelector(".drop").dispatchEvent(
    new DragEvent("drop", {dataTransfer: given, bubbles: true, cancelable: true}));
})"""
SHOWN = "[...document.querySelectorAll('.values-table td')].map((each) => Number(each.textContent))"
# What browsers say of requests to a server that is not there.
OUT_OF_REACH = re.compile(r"net::ERR_|status of 503")


class Device:
    """A device on MQTT that sends, and applies the configurations that it gets once it may."""

    def __init__(self, server: ServerProcess, device_id: str, key: str) -> None:
        self.device_id = device_id
        self.got: list[tuple[int, object]] = []
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=device_id)
        self.client.username_pw_set(device_id, key)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda *_: self.client.subscribe(f"configurations/{device_id}", 1)
        self.client.on_message = self._note
        self.client.connect("127.0.0.1", server.mqtt_port)

    def __enter__(self) -> Self:
        self.client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def send(self, temperature: float) -> float:
        """Send a reading of now, and return its time; it is kept until there is a connection."""
        now = time.time()
        reading = {"timestamp": now, "value": {"temperature": temperature}}
        self.client.publish(f"measurements/{self.device_id}", json.dumps(reading), qos=1)
        return now

    def apply(self) -> None:
        """Answer that the newest configuration is applied."""
        answer = {"heartbeats": [{"revision": self.got[-1][0], "success": True}]}
        self.client.publish(f"heartbeats/{self.device_id}", json.dumps(answer), qos=1)

    def _note(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        told = json.loads(message.payload)
        self.got.append((told["revision"], told["configuration"]))


class Told:
    """The story, told in one page, looked at as it goes."""

    def __init__(self, server: ServerProcess, page: Page, folder: Path) -> None:
        self.server, self.page, self.folder = server, page, folder
        self.axe = AXE.read_text()
        self.found: list[object] = []

    def look(self, name: str) -> None:
        """Note what is wider than the window, or no screen reader can tell."""
        if self.page.overflows():
            self.found.append((name, "too wide"))
        self.page(self.axe)
        told = self.page("axe.run().then((result) => JSON.stringify(result.violations))")
        self.found += [
            (name, each["id"], [node["html"] for node in each["nodes"]])
            for each in json.loads(told)
            if each["impact"] in ("serious", "critical")
        ]
        (self.folder / f"{name.replace(' ', '-')}.png").write_bytes(self.page.picture())

    def open(self, label: str) -> None:
        """Press an entry of the navigation, which a narrow window hides in a menu."""
        until(lambda: self.page("document.querySelector('.menu > summary') !== null"))
        if self.page("document.querySelector('.menu > summary').offsetParent !== null"):
            self.page("document.querySelector('.menu > summary').click()")
        press(self.page, label)

    def first_start(self, printed: Path) -> None:
        page = self.page
        code = until(lambda: re.search(r"setup code +(\S+)", printed.read_text()))[1]
        shows(page, "Welcome to Heliograph")
        self.look("first start")
        fill(page, Setup_code_or_admin_key=code, User_name="ada", Password=PASSWORD)
        press(page, "Make the administrator")
        shows(page, "Networks")
        self.open("Log out")
        shows(page, "Log in")

    def sign_up(self) -> None:
        page = self.page
        press(page, "Sign up")
        shows(page, "Make an account")
        self.look("sign up")
        fill(page, User_name="grace", Password=PASSWORD)
        press(page, "Sign up")
        shows(page, "Networks", "No networks yet")

    def add_sensor(self) -> str:
        """Make a network and a sensor, run the shown command, and return the sensor's key."""
        page = self.page
        press(page, "New network")
        opened(page)
        fill(page, Name="greenhouse")
        press(page, "Make the network")
        closed(page)
        press(page, "greenhouse")
        shows(page, "greenhouse", "No sensors in this network yet")
        press(page, "Add a sensor")
        shows(page, "greenhouse", "What it logs in with")
        fill(page, Device_id="tomatoes-1")
        press(page, "Add the sensor")
        shows(page, "greenhouse", "Waiting for the first message")
        live(page)
        self.look("add a sensor")
        until(lambda: page("document.querySelectorAll('.copied pre').length") == 2)
        key, command = page("[...document.querySelectorAll('.copied pre')].map((p) => p.innerText)")
        subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60)
        shows(page, "greenhouse", "It has arrived")
        press(page, "Open the sensor")
        shows(page, "tomatoes-1")
        until(lambda: told(page, ".value-now") == "22.5")
        self.look("sensor")
        return str(key)

    def configure(self, device: Device) -> None:
        page = self.page
        press(page, "Configuration")
        shows(page, "tomatoes-1", "Not configured yet")
        live(page)
        press(page, "Change")
        opened(page)
        enter(page, "Configuration", '{"interval": 30}')
        press(page, "Send to the sensor")
        closed(page)
        until(lambda: told(page, ".row .state") in ("Not yet published", "On its way"))
        until(lambda: device.got == [(0, {"interval": 30})])
        # The device answers, and the page says so unasked.
        device.apply()
        until(lambda: told(page, ".row .state") == "Applied")
        self.look("configuration")

    def alert(self, device: Device) -> None:
        page = self.page
        self.open("Alerts")
        press(page, "Rules")
        press(page, "New rule")
        shows(page, "New rule", "Try it first")
        fill(page, Name="Too hot", Attribute="temperature", Number="30", Clears_below="25")
        press(page, "Make the rule")
        shows(page, "Too hot", "In use")
        self.look("rule")
        self.open("Alerts")
        shows(page, "Alerts", "Nothing is wrong")
        live(page)
        device.send(41)
        shows(page, "Alerts", "Too hot")
        self.look("alert")
        press(page, "Acknowledge")
        opened(page)
        fill(page, Comment="The vents are stuck")
        press(page, "Acknowledge")
        closed(page)
        shows(page, "Alerts", "Acknowledged by grace: The vents are stuck")
        press(page, "Silence")
        opened(page)
        self.look("silence")
        press(page, "Begin")
        closed(page)
        # It holds at 27: what clears it is below its own bound.
        device.send(27)
        cleared = device.send(24)
        shows(page, "Alerts", "Nothing is wrong")
        (past,) = self.server.http.get("/alerts", params={"state": "cleared"}).json()
        past_since = datetime.fromisoformat(past["cleared_at"]).timestamp()
        assert past_since == pytest.approx(cleared, abs=2e-6)
        press(page, "Past")
        shows(page, "Alerts", "Too hot")
        press(page, "Silences")
        shows(page, "Silences", "Sensor tomatoes-1, Rule Too hot")
        self.look("silences")

    def sensor_page(self) -> None:
        page = self.page
        self.open("Networks")
        press(page, "greenhouse")
        press(page, "tomatoes-1")
        shows(page, "tomatoes-1")
        until(lambda: told(page, ".value-now") == "24")
        until(lambda: told(page, ".summary tbody").startswith("temperature24"))
        live(page)

    def download_and_import(self) -> None:
        page = self.page
        self.sensor_page()
        page.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.folder))
        press(page, "CSV")
        file = until(lambda: next(self.folder.glob("*.csv"), None))
        lines = until(lambda: file.read_text().splitlines())
        assert [line.split(",")[1] for line in lines] == ["temperature", "22.5", "41", "27", "24"]
        press(page, "greenhouse")
        press(page, "Import")
        shows(page, "greenhouse", "Drop a CSV file here")
        page(f"{DROP}({json.dumps(file.name)}, {json.dumps(file.read_text())})")
        fill(page, Sensor="tomatoes-1")
        until(lambda: "rows can be stored" in told(page))
        self.look("import")
        press(page, "Store 4 rows")
        shows(page, "greenhouse", "0 stored, 4 were there already, 0 refused. That is all.")

    def send_view(self, zone: str) -> None:
        """Open a view's URL in a browser elsewhere, as somebody else."""
        self.sensor_page()
        press(self.page, "3 h")
        until(lambda: "range=3h" in self.page("location.search"))
        view = self.page("location.href")
        with browser(zone) as start, start(view) as other:
            other.watch()
            shows(other, "Log in")
            fill(other, User_name="ada", Password=PASSWORD)
            press(other, "Log in")
            shows(other, "tomatoes-1")
            until(lambda: told(other, ".value-now") == "24")
            assert other("location.href") == view
            until(lambda: told(other, ".segments [aria-pressed=true]") == "3 h")
            until(lambda: told(other, ".summary tbody").startswith("temperature24"))
            offset = other(
                "Intl.DateTimeFormat('en', {timeZoneName: 'short'})"
                ".formatToParts(Date.now()).at(-1).value"
            )
            assert offset in told(other, ".chart-span")
            assert other.errors == []

    def restart(self, device: Device) -> None:
        page, server = self.page, self.server
        page("document.querySelector('.chart-box details summary').click()")
        until(lambda: page(SHOWN) == [22.5, 41, 27, 24])
        assert page.errors == []
        page("window.isTheSame = true")
        server.kill()
        shows(page, "tomatoes-1", "The server can\u2019t be reached")
        until(lambda: told(page, ".live") == "Reconnecting")
        assert page(SHOWN) == [22.5, 41, 27, 24]
        self.look("out of reach")
        # The device is back before the page, which has to read what it has missed.
        page.be_offline(is_offline=True)
        for value in (23, 23.25, 23.5):
            device.send(value)
        server.start()
        until(lambda: len(server.http.get("/sensors/tomatoes-1/measurements").json()) == 7)
        page.be_offline(is_offline=False)
        until(lambda: page(SHOWN) == [22.5, 41, 27, 24, 23, 23.25, 23.5])
        until(lambda: "reached" not in told(page))
        live(page)
        device.send(23.75)
        until(lambda: page(SHOWN) == [22.5, 41, 27, 24, 23, 23.25, 23.5, 23.75])
        assert page("window.isTheSame")
        self.look("back")
        page("1")
        assert [each for each in page.errors if not OUT_OF_REACH.search(each)] == []


@pytest.mark.parametrize(("width", "theme", "zone", "other"), TOLD)
def test_the_whole_story(width, theme, zone, other, tmp_path):
    printed = tmp_path / "printed"
    server = ServerProcess(tmp_path, ALLOW_SIGNUP="true", LOG_FORMAT="console", LOG_LEVEL="info")
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(printed.open("wb"))
        stack.callback(server.__exit__)
        server.process = Program(
            "serve", env=server.environment, cwd=tmp_path, stdout=output, stderr=output
        )
        server.wait_until_ready()
        start = stack.enter_context(browser(zone))
        page = stack.enter_context(start(f"{server.url}/dashboard/"))
        page.watch()
        page.show(width, theme)
        story = Told(server, page, tmp_path)
        story.first_start(printed)
        story.sign_up()
        key = story.add_sensor()
        device = stack.enter_context(Device(server, "tomatoes-1", key))
        story.configure(device)
        story.alert(device)
        story.download_and_import()
        story.send_view(other)
        story.restart(device)
        assert story.found == []
        stored = server.http.get("/sensors/tomatoes-1/measurements").json()
        assert len(stored) == 8
