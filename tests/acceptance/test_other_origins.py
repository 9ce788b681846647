"""CORS_ORIGINS in a browser: a front end on a port of its own, and one that is not named."""

import contextlib
import http.server
import json
import threading

import pytest

from browser import CHROMIUM, browser
from server import ServerThread

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

PASSWORD = "tangerine-orbit"
# What each comes to: a status, a text, or how it fails.
SCRIPT = """
(async (base) => {
  const outcome = (promise) => promise.catch((error) => error.name ?? String(error));
  const call = (path, body, more = {}) => fetch(base + path, {
    method: body ? "POST" : "GET",
    credentials: "include",
    headers: body ? { "content-type": "application/json", ...more } : more,
    body: body && JSON.stringify(body),
  });
  const told = {};
  told.login = await outcome(call("/authentication",
    { username: "ada", password: "PASSWORD", cookie: true }).then((answer) => answer.status));
  told.read = await outcome(call("/networks").then(async (answer) => (await answer.json()).length));
  const made = await outcome(call("/devices", { device_id: "pump", network_identifier: "NETWORK" })
    .then(async (answer) => [answer.status, (await answer.json()).api_key]));
  told.change = Array.isArray(made) ? made[0] : made;
  const events = new EventSource(base + "/events?kind=measurement", { withCredentials: true });
  const shown = new Promise((resolve, reject) => {
    events.addEventListener("measurement", (event) => resolve(JSON.parse(event.data).device_id));
    events.onerror = () => reject(new Error("stream"));
  });
  const socket = new WebSocket(base.replace("http", "ws") + "/realtime/all");
  const messages = [];
  const heard = new Promise((resolve, reject) => {
    socket.onmessage = (event) => messages.push(JSON.parse(event.data)) > 1
      && resolve(messages[1].device_id);
    socket.onclose = (event) => reject(String(event.code));
  });
  const begun = Promise.all([
    new Promise((resolve) => { events.onopen = resolve; shown.catch(resolve); }),
    new Promise((resolve) => {
      const wait = () => messages.length ? resolve() : setTimeout(wait, 10);
      heard.catch(resolve);
      wait();
    }),
  ]);
  await begun;
  if (told.change === 201) {
    told.sent = (await call("/ingest", { t: 1 }, { "x-api-key": made[1] })).status;
  }
  told.stream = await outcome(shown);
  told.socket = await outcome(heard);
  events.close();
  socket.close();
  return told;
})
"""


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A front end</title>")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def front_end():
    """Serve an empty page on a port of its own; give its origin."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, name="front end").start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()


def test_a_page_of_a_named_origin_works_as_our_own_and_no_other_does(tmp_path):
    with (
        front_end() as named,
        front_end() as other,
        ServerThread(tmp_path, cors_origins=named) as server,
        browser() as opened,
    ):
        server.http.post("/users", json={"username": "ada", "password": PASSWORD})
        network = server.http.post("/networks", json={"network_name": "roof"}).json()
        path = f"/networks/{network['network_identifier']}"
        joined = server.http.put(f"{path}/members/ada", json={"role": "owner"})
        assert joined.is_success, joined.text
        script = SCRIPT.replace("PASSWORD", PASSWORD).replace(
            "NETWORK", network["network_identifier"]
        )
        call = f"{script}({json.dumps(f'http://localhost:{server.port}')})"
        with opened(named) as evaluate:
            assert evaluate(call) == {
                "login": 200,
                "read": 1,
                "change": 201,
                "sent": 201,
                "stream": "pump",
                "socket": "pump",
            }
            assert evaluate("document.cookie") == ""
        # It is of the same site, so that the browser sends the session's cookie from there, too.
        with opened(other) as evaluate:
            assert evaluate(call) == {
                "login": "TypeError",
                "read": "TypeError",
                "change": "TypeError",
                "stream": "Error",
                "socket": "4403",
            }
        assert len(server.http.get("/devices").json()) == 1
