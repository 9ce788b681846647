"""Pages in a headless Chromium, in which tests run JavaScript."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket

from ports import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SECONDS = 120
# How far what is shown has jumped while it was loaded, as browsers measure it.
SHIFTED = """new Promise((done) => {
  const sum = (found) => done(found.getEntries().reduce((all, { value }) => all + value, 0));
  new PerformanceObserver(sum).observe({type: "layout-shift", buffered: true});
  requestAnimationFrame(() => requestAnimationFrame(() => done(0)));
})"""


@contextlib.contextmanager
def browser(zone: str = "UTC") -> Iterator["Open"]:
    """Start a browser in a zone; give a function that opens a URL, and gives the page there."""
    assert CHROMIUM is not None
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu"),
            *("--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={profile}"),
            *(f"--remote-debugging-port={port}", "about:blank"),
        ]
        with subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TZ": zone},
        ) as process:
            try:
                until(lambda: _answers(port))
                yield lambda url: _page(port, url)
            finally:
                process.terminate()
                try:
                    process.wait(SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()


def until(condition: Callable[[], Any]) -> Any:
    """Poll until the condition holds, and return what it said."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


def _answers(port: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/json/version", timeout=60).is_success
    return False


class Page:
    """A page that is open. Called with a script it returns what that comes to."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        # What the console and the browser have called an error so far.
        self.errors: list[str] = []

    def __call__(self, script: str) -> Any:
        """Return what the script comes to, a promise awaited."""
        parameters = {"expression": script, "awaitPromise": True, "returnByValue": True}
        result = self.command("Runtime.evaluate", **parameters)
        assert "exceptionDetails" not in result, result["exceptionDetails"]["exception"][
            "description"
        ]
        return result["result"].get("value")

    def command(self, method: str, **parameters: Any) -> Any:
        """Return what the browser answers to a command of its protocol."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv(SECONDS))).get("id") != number:
            self._note(answer)
        # A script that the page was left under comes to nothing.
        if "navigated" in answer.get("error", {}).get("message", ""):
            return {"result": {}}
        assert "result" in answer, answer
        return answer["result"]

    def watch(self) -> None:
        """Note from now on what the console and the browser call an error."""
        self.command("Runtime.enable")
        self.command("Log.enable")

    def show(self, width: int, theme: str, height: int = 900) -> None:
        """Be so wide and high, in a system that prefers `light` or `dark`."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.command("Emulation.setEmulatedMedia", features=features)

    def picture(self) -> bytes:
        """Return what is shown, as PNG."""
        return base64.b64decode(self.command("Page.captureScreenshot")["data"])

    def _note(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"]))
        elif event.get("method") == "Runtime.consoleAPICalled" and told["type"] == "error":
            self.errors.append(json.dumps(told["args"]))
        elif event.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(json.dumps(told["entry"]))


@contextlib.contextmanager
def _page(port: int, url: str) -> Iterator[Page]:
    opened = httpx.put(f"http://127.0.0.1:{port}/json/new?{quote(url)}", timeout=60).json()
    with open_websocket(opened["webSocketDebuggerUrl"], max_size=None) as socket:
        page = Page(socket)
        # The empty document that a page begins with is complete as well.
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        here = f"location.origin === '{origin}' && document.readyState === 'complete'"
        until(lambda: page(here))
        yield page


Open = Callable[[str], contextlib.AbstractContextManager[Page]]
