"""Pages in a headless Chromium, in which tests run JavaScript."""

import contextlib
import itertools
import json
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

Evaluate = Callable[[str], Any]
Open = Callable[[str], contextlib.AbstractContextManager[Evaluate]]


@contextlib.contextmanager
def browser() -> Iterator[Open]:
    """Start a browser; give a function that opens a URL, and gives one that evaluates there."""
    assert CHROMIUM is not None
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu"),
            *("--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={profile}"),
            *(f"--remote-debugging-port={port}", "about:blank"),
        ]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
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


@contextlib.contextmanager
def _page(port: int, url: str) -> Iterator[Evaluate]:
    opened = httpx.put(f"http://127.0.0.1:{port}/json/new?{quote(url)}", timeout=60).json()
    with open_websocket(opened["webSocketDebuggerUrl"], max_size=None) as socket:
        numbers = itertools.count(1)

        def evaluate(script: str) -> Any:
            return _evaluated(socket, next(numbers), script)

        # The empty document that a page begins with is complete as well.
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        here = f"location.origin === '{origin}' && document.readyState === 'complete'"
        until(lambda: evaluate(here))
        yield evaluate


def _evaluated(socket: ClientConnection, number: int, script: str) -> Any:
    """Return what the script comes to, a promise awaited."""
    parameters = {"expression": script, "awaitPromise": True, "returnByValue": True}
    socket.send(json.dumps({"id": number, "method": "Runtime.evaluate", "params": parameters}))
    while (answer := json.loads(socket.recv(SECONDS))).get("id") != number:
        pass
    result = answer["result"]
    assert "exceptionDetails" not in result, result["exceptionDetails"]["exception"]["description"]
    return result["result"].get("value")
