"""`heliograph tail` against a running server."""

import http.server
import json
import os
import select
import signal
import subprocess
import threading
import time

import pytest

from bare_environment import without_variables
from commands import called
from program import Program
from server import ADMIN_KEY, serving

SECONDS = 120


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("server")) as running:
        running.http.post("/devices", json={"device_id": "pump"}).raise_for_status()
        yield running


def surroundings(key):
    environment = {**without_variables(), "PATH": os.environ["PATH"]}
    environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    return {**environment, "HELIOGRAPH_API_KEY": key} if key else environment


def tail(server, *arguments):
    return Program(
        *("tail", "--url", f"http://127.0.0.1:{server.port}", *arguments),
        env=surroundings(ADMIN_KEY),
        cwd=server.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def until_a_line(server, process, body):
    """Send until the command shows something: nobody tells when it watches."""
    deadline = time.monotonic() + SECONDS
    while not select.select([process.stdout], [], [], 0.05)[0]:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        server.http.post("/ingest", json=body).raise_for_status()
    return process.communicate(timeout=SECONDS)


@pytest.mark.parametrize("network", [(), ("default",)])
def test_a_network_is_followed(server, network):
    process = tail(server, *network, "--sensor", "pump", "--count", "1")
    output, _ = until_a_line(server, process, {"device_id": "pump", "t": 21.5})
    assert process.returncode == 0
    assert output.rstrip().endswith('pump  measurement  {"t": 21.5}')


def test_json_goes_on_after_an_event(server):
    process = tail(server, "--json", "--count", "1", "--kind", "measurement")
    body = {"device_id": "pump", "t": 1}
    first = json.loads(until_a_line(server, process, body)[0].splitlines()[0])
    ids = [
        server.http.post("/ingest", json={"device_id": "pump", "t": value}).json()["id"]
        for value in (2, 3, 4)
    ]
    process = tail(server, "--json", "--count", "2", "--last-event-id", ids[0])
    lines = [json.loads(line) for line in process.communicate(timeout=SECONDS)[0].splitlines()]
    assert [line["data"]["measurement"]["t"] for line in lines] == [3, 4]
    assert [line["id"] for line in lines] == ids[1:]
    assert first["event"] == "measurement"


def test_a_proxy_before_a_server_that_starts_again_ends_nothing(tmp_path):
    event = 'id: %d\nevent: measurement\ndata: {"measurement":%d}\n\n'
    answers = iter([(200, event % (7, 1)), (502, ""), (200, event % (8, 2))])
    resumed = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            resumed.append(self.headers["Last-Event-ID"])
            status, body = next(answers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, name="proxy").start()
        url = f"http://127.0.0.1:{proxy.server_port}"
        process = Program(
            *("tail", "--count", "2", "--api-key", "k", "--url", url),
            env=os.environ,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        output, error = process.communicate(timeout=SECONDS)
        proxy.shutdown()
    assert (process.returncode, error) == (0, "")
    assert [line[-1] for line in output.splitlines()] == ["1", "2"]
    assert resumed == [None, "7", "7"]


@pytest.mark.parametrize(
    ("arguments", "key", "message"),
    [
        ((), "wrong", "the server answers 401: Invalid API key"),
        (("nowhere",), ADMIN_KEY, "network 'nowhere' not found"),
        (("--kind", "nonsense"), ADMIN_KEY, "the server answers 422"),
        (("--url", "http://127.0.0.1:1"), ADMIN_KEY, "--url http://127.0.0.1:1"),
        (("--url", "http://telemetry.invalid"), None, "HELIOGRAPH_API_KEY"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(server, arguments, key, message):
    url = ("--url", f"http://127.0.0.1:{server.port}")
    done = called("tail", *url, *arguments, environment=surroundings(key), folder=server.folder)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    # This process is not to end where somebody has closed a socket.
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
