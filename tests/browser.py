"""Pages in a headless Chromium, in which tests run JavaScript."""

import base64
import contextlib
import inspect
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from websockets.exceptions import ConnectionClosed
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
# Where a page is, and what it says: of a choice only what is chosen.
STATE = """[location.href, [...document.querySelectorAll("select")].reduce(
  (text, each) => text.replace(each.innerText, each.selectedOptions[0]?.textContent ?? ""),
  document.body?.innerText ?? "")]"""
# What an expression comes to once it has been the same in each of so many frames.
STEADY = """(async (read, frames) => {
  let [before, same] = [undefined, 0];
  for (let frame = 0; same < frames; frame++) {
    if (frame > 100 * frames) throw new Error(`it does not stand still: ${before}`);
    await new Promise(requestAnimationFrame);
    const now = JSON.stringify(read() ?? null);
    same = now === before ? same + 1 : 0;
    before = now;
  }
  return JSON.parse(before);
})"""
FRAMES = 10
# Where on the screen an element is, scrolled to if it is out of sight; null where there is none, or
# something lies over its middle.
BOX = """(() => {
  const found = document.querySelector(%s);
  if (!found) return null;
  const { left, top, width, height } = found.getBoundingClientRect();
  const [x, y] = [left + width / 2, top + height / 2];
  if (y < 0 || y > innerHeight) found.scrollIntoView({block: "center"});
  return found.contains(document.elementFromPoint(x, y)) ? [left, top, width, height] : null;
})()"""


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
    """Poll until the condition holds, and return what it said.

    Raises:
        AssertionError: it never held; tells what was waited for, and what the pages show instead.
    """
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(
        "\n".join(
            (
                f"for {SECONDS} seconds this did not hold: {_source(condition)}",
                f"it was {found!r}",
                *map(_state, _pages),
            )
        )
    )


def _source(condition: Callable[[], Any]) -> str:
    """Return the statement that a condition is written in, and the texts that it names."""
    try:
        source = inspect.getsource(condition).strip()
        names = inspect.getclosurevars(condition).nonlocals
    except (OSError, TypeError):
        return repr(condition)
    texts = {name: value for name, value in names.items() if isinstance(value, str)}
    return f"{source}, where {texts}" if texts else source


def _state(page: "Page") -> str:
    """Return where a page is, what it shows, and what went wrong in it."""
    try:
        url, text = page(STATE)
    except (AssertionError, TypeError, TimeoutError, ConnectionClosed) as error:
        return f"a page that does not answer: {error!r}; its errors: {page.errors}"
    return f"{url} shows:\n{text}\nIts errors: {page.errors}"


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

    def steady(self, expression: str) -> Any:
        """Return what an expression comes to once the page has drawn the same for some frames."""
        return self(f"{STEADY}(() => {expression}, {FRAMES})")

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Return left, top, width and height of an element in sight, once it stands still."""
        left, top, width, height = until(lambda: self.steady(BOX % json.dumps(selector)))
        return left, top, width, height

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Do with the left button what the browser's protocol calls so: `mousePressed`."""
        at = {"x": x, "y": y, "button": "left", "clickCount": 1}
        self.command("Input.dispatchMouseEvent", type=kind, **at)

    def swipe(self, points: Sequence[tuple[float, float]]) -> None:
        """Put a finger at the first point, move it over the others, and lift it."""
        for number, (x, y) in enumerate(points):
            kind = "touchMove" if number else "touchStart"
            self.command("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
        self.command("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

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

    def be_offline(self, *, is_offline: bool) -> None:
        """Have no network from now on, or have it again."""
        self.command("Network.enable")
        limits = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.command("Network.emulateNetworkConditions", offline=is_offline, **limits)

    def overflows(self) -> bool:
        """Whether what is shown is wider than the window.

        On a telephone `innerWidth` is no measure of that: it grows with what is shown.
        """
        root = "document.documentElement"
        return bool(self(f"{root}.scrollWidth > {root}.clientWidth"))

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
        _pages.append(page)
        try:
            until(lambda: page(here))
            yield page
        finally:
            _pages.remove(page)


# Those that are open.
_pages: list[Page] = []
Open = Callable[[str], contextlib.AbstractContextManager[Page]]
