"""Passwords, certificates and names, against a real broker that wants them."""

import asyncio
import shutil
import socket
import subprocess

import pytest
import trustme
from pydantic import SecretStr

from server import eventually

PASSWORDS = shutil.which("mosquitto_passwd")
PLAIN = "persistence true\nsys_interval 1\n"


@pytest.fixture
def guarded(mosquittos):
    """Return a broker that knows the user `server` with the password `right`."""
    broker = mosquittos("allow_anonymous true\n")
    broker.stop()
    write_password(broker, "right")
    broker.configure(f"{PLAIN}allow_anonymous false\npassword_file {broker.folder}/passwords\n")
    broker.start()
    return broker


def write_password(broker, password):
    if PASSWORDS is None:
        pytest.skip("mosquitto_passwd is not installed")
    path = broker.folder / "passwords"
    options = ["-b"] if path.exists() else ["-c", "-b"]
    subprocess.run([PASSWORDS, *options, path, "server", password], check=True, timeout=60)
    path.chmod(0o644)


NOT_AUTHORIZED = "refused: not authorized: wrong user name or password, or not allowed"


@pytest.mark.parametrize(
    ("username", "password"),
    [("server", "guessed"), ("nobody", "right"), ("server", None), (None, None)],
)
async def test_a_wrong_password_is_told_and_tried_until_it_is_right(
    guarded, linked, problem, capsys, username, password
):
    secret = SecretStr(password) if password else None
    async with linked(guarded, mqtt_username=username, mqtt_password=secret) as server:
        assert await problem(server) == NOT_AUTHORIZED
        assert (await server.http.get("/readyz")).status_code == 503
        guarded.stop()
        guarded.configure("allow_anonymous true\n")
        guarded.start()
        await eventually(lambda: server.services.link.connected)
        assert (await server.http.get("/readyz")).status_code == 200
    said = capsys.readouterr().err
    assert NOT_AUTHORIZED in said
    assert "guessed" not in said


async def test_a_password_is_put_right_at_the_broker(guarded, linked, problem):
    async with linked(guarded, mqtt_username="server", mqtt_password=SecretStr("new")) as server:
        assert await problem(server) == NOT_AUTHORIZED
        guarded.stop()
        write_password(guarded, "new")
        guarded.start()
        await eventually(lambda: server.services.link.connected)


@pytest.mark.parametrize("where", ["settings", "url", "both"])
async def test_a_right_password(guarded, linked, where):
    right = {"mqtt_username": "server", "mqtt_password": SecretStr("right")}
    settings = {} if where == "url" else right
    part = {"settings": "", "url": "server:right@", "both": "nobody:wrong@"}[where]
    url = guarded.url.replace("mqtt://", f"mqtt://{part}")
    async with linked(guarded, mqtt_url=url, **settings) as server:
        await eventually(lambda: server.services.link.connected)


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def certified(mosquittos, authority, tmp_path):
    """Return a function: a broker over TLS with a certificate for the name."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    def certified(name="localhost", options="", issuer=authority):
        broker = mosquittos("allow_anonymous true\n")
        broker.stop()
        certificate = issuer.issue_cert(name)
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(broker.folder / "chain.pem", append=True)
        certificate.private_key_pem.write_to_path(broker.folder / "key.pem")
        (broker.folder / "key.pem").chmod(0o644)
        shutil.copy(tmp_path / "ca.pem", broker.folder / "ca.pem")
        folder = broker.folder
        (folder / "ca.pem").chmod(0o644)
        broker.configure(
            f"allow_anonymous true\ncertfile {folder}/chain.pem\nkeyfile {folder}/key.pem\n"
            + options.format(folder=folder)
        )
        broker.start()
        return broker

    return certified


def over_tls(broker, tmp_path, **settings):
    return {
        "mqtt_url": f"mqtts://localhost:{broker.port}",
        "mqtt_url_tls_ca": tmp_path / "ca.pem",
        **settings,
    }


async def test_tls(certified, linked, tmp_path):
    broker = certified()
    async with linked(broker, **over_tls(broker, tmp_path)) as server:
        await eventually(lambda: server.services.link.connected)
        device = await server.device()
        command = ["mosquitto_pub", "-h", "localhost", "-p", str(broker.port), "-q", "1"]
        command += ["--cafile", str(tmp_path / "ca.pem"), "-t", device.topic, "-m", '{"value": 1}']
        assert subprocess.run(command, timeout=60, check=False).returncode == 0

        async def stored():
            return await server.values(device) == ["1"]

        await eventually(stored)


async def test_an_unknown_authority(certified, linked, tmp_path, problem, capsys):
    broker = certified(issuer=trustme.CA())
    async with linked(broker, **over_tls(broker, tmp_path)) as server:
        words = await problem(server)
        assert words.startswith("the broker's certificate: ")
        assert "unable to get local issuer certificate" in words
    assert words in capsys.readouterr().err


async def test_the_systems_authorities_do_not_know_it(certified, linked, tmp_path, problem):
    broker = certified()
    async with linked(broker, **over_tls(broker, tmp_path, mqtt_url_tls_ca=None)) as server:
        assert (await problem(server)).startswith("the broker's certificate: ")


async def test_a_certificate_of_another_name_and_the_name_put_right(
    certified, linked, tmp_path, problem
):
    broker = certified("broker.example")
    async with linked(broker, **over_tls(broker, tmp_path)) as server:
        words = await problem(server)
        assert words.startswith("the broker's certificate: Hostname mismatch")
        assert "localhost" in words
    settings = over_tls(broker, tmp_path, mqtt_url_tls_server_name="broker.example")
    async with linked(broker, **settings) as server:
        await eventually(lambda: server.services.link.connected)


async def test_a_certificate_is_put_right_at_the_broker(certified, linked, tmp_path, problem):
    broker = certified("broker.example")
    async with linked(broker, **over_tls(broker, tmp_path)) as server:
        assert "Hostname mismatch" in await problem(server)
        broker.stop()
        right = certified("localhost")
        await asyncio.to_thread(right.stop)
        for name in ("chain.pem", "key.pem"):
            shutil.copy(right.folder / name, broker.folder / name)
        broker.start()
        await eventually(lambda: server.services.link.connected)


async def test_client_certificates(certified, linked, tmp_path, authority, problem, capsys):
    broker = certified(options="require_certificate true\ncafile {folder}/ca.pem\n")
    async with linked(broker, **over_tls(broker, tmp_path)) as server:
        words = await problem(server)
        assert "certificate" in words
        assert "_ssl.c" not in words
    assert words in capsys.readouterr().err
    own = authority.issue_cert("server.example")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    pair = dict.fromkeys(("mqtt_url_tls_certificate", "mqtt_url_tls_key"), tmp_path / "own.pem")
    async with linked(broker, **over_tls(broker, tmp_path, **pair)) as server:
        await eventually(lambda: server.services.link.connected)


async def test_a_plain_port_is_no_tls_port(mosquitto, linked, tmp_path, problem):
    url = f"mqtts://127.0.0.1:{mosquitto.port}"
    async with linked(mosquitto, mqtt_url=url) as server:
        words = await problem(server)
        assert words.startswith(f"{url} can't be reached: ")
        assert words.endswith("; does it speak TLS there?")


async def test_a_tls_port_is_no_plain_port(certified, linked, problem):
    broker = certified()
    async with linked(broker) as server:
        words = await problem(server)
        assert words.startswith("the connection was lost: ")
        assert words.endswith("instead of an answer to CONNECT; is it MQTT 5 there, without TLS?")


async def test_a_port_that_speaks_no_tls_at_all(linked, problem, mosquitto):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def answer():
            client, _ = listening.accept()
            with client:
                client.recv(1_000)
                client.sendall(b"220 mail.example ESMTP\r\n")

        answering = asyncio.create_task(asyncio.to_thread(answer), name="answer")
        async with linked(mosquitto, mqtt_url=f"mqtts://127.0.0.1:{port}") as server:
            words = await problem(server, "TLS with ")
            assert words.startswith(f"TLS with mqtts://127.0.0.1:{port} failed: ")
        await answering
