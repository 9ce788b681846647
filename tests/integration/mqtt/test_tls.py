"""MQTT over TLS, with and without client certificates, and for who never finishes to greet."""

import asyncio
import contextlib
import ssl

import pytest
import trustme

from heliograph.settings import Address
from mqtt_client import Client, connect, publish
from server import eventually, running


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def tls(authority, tmp_path):
    """Return the settings of a server with a certificate for localhost."""
    certificate = authority.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    certificate.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return {
        "mqtt_listen": (),
        "mqtt_tls_listen": (Address("127.0.0.1", 0),),
        "mqtt_tls_certificate": chain,
        "mqtt_tls_key": key,
    }


async def dial(server, context, version):
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.port, ssl=context, server_hostname="localhost"
    )
    return Client(reader, writer, version)


async def log_in(client, device):
    client.send(
        connect("c", device.device_id, device.key, version=client.version)
        + publish(device.topic, b'{"value": 1}', version=client.version)
    )
    return [await client.packet() for _ in range(2)]


async def test_tls(tmp_path, tls, authority, version):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with running(tmp_path, **tls) as server:
        device = await server.device()
        answers = await log_in(await dial(server, context, version), device)
        assert [answer[:1] for answer in answers] == [b"\x20", b"\x40"]
        assert await server.values(device) == ["1"]
        with pytest.raises(ssl.SSLCertVerificationError):
            await dial(server, ssl.create_default_context(), version)
        plain = await Client.open(server.port, version)
        assert await log_in(plain, device) == [b"", b""]


async def test_client_certificates_are_required_where_there_is_an_authority(
    tmp_path, tls, authority, version
):
    strangers = trustme.CA()
    async with running(tmp_path, **tls, mqtt_tls_ca=tmp_path / "ca.pem") as server:
        device = await server.device()
        answers = {}
        for name, issuer in (("none", None), ("stranger", strangers), ("ours", authority)):
            context = ssl.create_default_context()
            authority.configure_trust(context)
            if issuer is not None:
                issuer.issue_cert("client.example").configure_cert(context)
            try:
                answers[name] = await log_in(await dial(server, context, version), device)
            except (ssl.SSLError, ConnectionError):
                answers[name] = [b"", b""]
        assert answers["none"] == answers["stranger"] == [b"", b""]
        assert [answer[:1] for answer in answers["ours"]] == [b"\x20", b"\x40"]


async def test_a_new_certificate_counts_without_a_restart(tmp_path, tls, authority, monkeypatch):
    monkeypatch.setattr("heliograph.tls.LOOK_SECONDS", 0.01)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with running(tmp_path, **tls) as server:

        async def shown():
            client = await dial(server, context, 4)
            number = client.writer.get_extra_info("peercert")["serialNumber"]
            client.writer.close()
            return number

        first = await shown()
        renewed = authority.issue_cert("localhost")
        tls["mqtt_tls_certificate"].write_bytes(renewed.cert_chain_pems[0].bytes())
        tls["mqtt_tls_key"].write_bytes(renewed.private_key_pem.bytes())

        async def is_new():
            return await shown() != first

        await eventually(is_new)


async def test_who_never_finishes_the_handshake(tmp_path, tls):
    async with running(tmp_path, **tls, mqtt_connect_timeout=0.5) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(9):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        await eventually(lambda: server.listener.connections == 0)
