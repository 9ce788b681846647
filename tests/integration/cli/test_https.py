"""`heliograph serve` over HTTPS: requests, streams and sockets, and how it ends them."""

import asyncio
import socket
import ssl

import httpx
import pytest
import trustme
import websockets

from ports import free_port
from server import ADMIN_KEY, ServerProcess, serving

ADMIN = {"X-API-Key": ADMIN_KEY}


@pytest.fixture
def secure(tmp_path):
    """Return a server's variables, and what its clients trust."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return {
        "HTTPS_LISTEN": f"127.0.0.1:{free_port()}",
        "HTTPS_CERTIFICATE": str(tmp_path / "own.pem"),
        "HTTPS_KEY": str(tmp_path / "own.pem"),
        "HSTS_SECONDS": "60",
        "LOG_FILE": str(tmp_path / "log"),
        "LOG_FORMAT": "json",
    }, context


def place(server: ServerProcess) -> str:
    return f"localhost:{server.environment['HTTPS_LISTEN'].rpartition(':')[2]}"


def test_all_is_served_over_tls_and_ends_in_order(tmp_path, secure):
    variables, context = secure
    with serving(tmp_path, **variables) as server:
        url = f"https://{place(server)}"
        assert "strict-transport-security" not in server.http.get("/ping").headers
        # Of what is left open one has not even begun to speak TLS.
        silent = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        with httpx.Client(base_url=url, headers=ADMIN, verify=context) as client, silent:
            made = client.post("/devices", json={"device_id": "pump"})
            assert made.status_code == 201
            assert made.headers["strict-transport-security"] == "max-age=60"
            sent = client.post("/sensors/pump/measurements", json={"value": 1})
            assert sent.status_code == 201
            assert sent.headers["strict-transport-security"] == "max-age=60"
            with client.stream("GET", "/events") as stream:
                lines = stream.iter_lines()
                assert next(lines)
                asyncio.run(watch_over_tls(server, context, client))
                assert server.terminate() == 0
                assert list(lines)
    # Nothing had to be cut off.
    log = (tmp_path / "log").read_text()
    assert '"level": "error"' not in log
    assert '"level":"error"' not in log


async def watch_over_tls(server, context, client):
    watched = f"wss://{place(server)}/realtime/all"
    async with websockets.connect(watched, ssl=context, additional_headers=ADMIN) as viewer:
        assert "ack" in await viewer.recv()
        sent = await asyncio.to_thread(client.post, "/sensors/pump/measurements", json={"value": 2})
        assert sent.status_code == 201
        assert '"value":2' in await viewer.recv()
