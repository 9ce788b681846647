"""Certificates that are replaced under a running server: handshakes without a network."""

import errno
import ssl
from pathlib import Path

import pytest
import structlog
import trustme
from cryptography.hazmat.primitives import serialization

from heliograph.errors import StartError
from heliograph.tls import ServerTls


class Site:
    """A folder with the files of a server, and the authority that its clients trust."""

    def __init__(self, folder):
        self.authority = trustme.CA()
        self.certificate, self.key = folder / "chain.pem", folder / "key.pem"
        self.clients = folder / "clients.pem"
        self.issue()

    def issue(self):
        """Replace certificate and key; return them as they were."""
        before = [f.read_bytes() for f in (self.certificate, self.key) if f.exists()]
        issued = self.authority.issue_cert("localhost")
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        return before

    def client(self, issuer=None):
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if issuer is not None:
            issuer.issue_cert("device.example").configure_cert(context)
        return context


@pytest.fixture
def here(tmp_path):
    return Site(tmp_path)


def greet(tls, client, name="localhost"):
    """Return the serial number of the certificate that a client is shown."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(back, there, server_hostname=name)
    answering = tls.context.wrap_bio(there, back, server_side=True)
    waiting = [asking, answering]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    return asking.getpeercert()["serialNumber"]


def changed(tls):
    """Have the files looked at until they count."""
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            tls.look()
    return [(line["log_level"], line["event"]) for line in logs]


def test_a_new_certificate_counts_from_the_next_handshake_on(here):
    tls, client = ServerTls("HTTPS", here.certificate, here.key), here.client()
    first = greet(tls, client)
    assert greet(tls, client) == first
    here.issue()
    tls.look()
    assert greet(tls, client) == first  # it may not be complete yet
    assert changed(tls) == [("info", "certificate renewed")]
    assert greet(tls, client) != first
    assert changed(tls) == []


@pytest.mark.parametrize("broken", ["certificate", "key", "gone"])
def test_a_bad_certificate_leaves_the_old_one_and_is_told_once(here, broken):
    tls, client = ServerTls("HTTPS", here.certificate, here.key), here.client()
    first = greet(tls, client)
    certificate, key = here.issue()
    if broken == "certificate":
        here.certificate.write_text("-----BEGIN CERTIFICATE-----\nnone")
    elif broken == "key":
        here.key.write_bytes(key)  # of the certificate before
    else:
        here.key.unlink()
    assert changed(tls) == [("error", "certificate not renewed")]
    assert changed(tls) == []
    assert greet(tls, client) == first
    here.certificate.write_bytes(certificate)
    here.key.write_bytes(key)
    assert changed(tls) == [("info", "certificate renewed")]
    assert greet(tls, client) == first


def test_a_key_counts_once_it_may_be_read(here, monkeypatch):
    tls, client = ServerTls("HTTPS", here.certificate, here.key), here.client()
    first = greet(tls, client)
    here.issue()
    here.key.chmod(0o000)
    with monkeypatch.context() as as_another_user:
        read = Path.read_bytes

        def refuse(file):
            if file == here.key:
                raise PermissionError(errno.EACCES, "Permission denied")
            return read(file)

        as_another_user.setattr(Path, "read_bytes", refuse)
        assert changed(tls) == [("error", "certificate not renewed")]
    here.key.chmod(0o640)
    assert changed(tls) == [("info", "certificate renewed")]
    assert greet(tls, client) != first


def test_authorities_of_clients_are_replaced_too(here):
    ours, others = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(here.clients)
    tls = ServerTls("MQTT_TLS", here.certificate, here.key, here.clients)
    greet(tls, here.client(ours))
    for client, reason in (
        (here.client(), "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        (here.client(others), "unable to get local issuer certificate"),
    ):
        with structlog.testing.capture_logs() as logs, pytest.raises(ssl.SSLError):
            greet(tls, client)
        assert [(line["event"], line["reason"]) for line in logs] == [
            ("TLS handshake failed", reason)
        ]
    others.cert_pem.write_to_path(here.clients)
    assert changed(tls) == [("info", "certificate renewed")]
    greet(tls, here.client(others))
    with pytest.raises(ssl.SSLError):
        greet(tls, here.client(ours))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda site: site.key.write_text("none"), "HTTPS_KEY: '.*key.pem' has no private key"),
        (lambda site: site.key.unlink(), "HTTPS_KEY: can't read '.*key.pem': No such file"),
        (lambda site: site.certificate.write_text("none"), "HTTPS_CERTIFICATE: .* no certificate"),
        (lambda site: site.key.write_bytes(site.issue()[1]), "HTTPS_KEY: is not the key of HTTPS_"),
        (lambda site: cut(site.key), "HTTPS_CERTIFICATE, HTTPS_KEY: can't be used"),
        (lambda site: encrypt(site.key), "HTTPS_KEY: '.*key.pem' is encrypted"),
        (lambda site: site.clients.write_text("none"), "HTTPS_CA: '.*' has no certificate"),
    ],
)
def test_a_start_with_bad_files_names_the_setting(here, spoil, told):
    here.authority.cert_pem.write_to_path(here.clients)
    spoil(here)
    with pytest.raises(StartError, match=told):
        ServerTls("HTTPS", here.certificate, here.key, here.clients)


def cut(file):
    """Leave a file half written."""
    file.write_bytes(file.read_bytes()[:100])


def encrypt(file):
    """Encrypt a key, so that OpenSSL needs a passphrase."""
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"passphrase")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    file.write_bytes(key.private_bytes(*form, encryption))
