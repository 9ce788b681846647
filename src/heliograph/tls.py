"""TLS as the settings have it: with clients, over HTTP and MQTT, and with MQTT_URL's broker.

The files that clients are served with may be replaced while the server runs. They are looked at
every few seconds, and what is new counts for handshakes from then on, all of it or nothing.
"""

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import structlog

from heliograph.errors import StartError
from heliograph.line_rate import LineRate
from heliograph.settings import Settings

log = structlog.get_logger()

LOOK_SECONDS = 10.0

# What tells one state of a file from another: when it was changed, its rights included, its size,
# and which it is.
_State: TypeAlias = tuple[int, int, int] | None


_of_handshakes = LineRate()


class _Greeting(ssl.SSLObject):
    """A handshake whose failure is told: nobody else learns of a certificate that is refused.

    It knows no address. Who goes without a word, as a look at a port does, is none.
    """

    def do_handshake(self) -> None:
        """Begin a connection, or go on with it."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLEOFError):
            raise
        except ssl.SSLError as error:
            if (more := _of_handshakes.due()) is not None:
                reason = getattr(error, "verify_message", None) or error.reason or str(error)
                log.info("TLS handshake failed", reason=reason, **more)
            raise


class ServerTls:
    """A server's certificate, its key, and the authorities of client certificates, if any."""

    def __init__(
        self,
        name: str,
        certificate: Path | None,
        key: Path | None,
        authorities: Path | None = None,
        *,
        protocols: Sequence[str] = (),
    ) -> None:
        """Load the files of the settings `NAME_CERTIFICATE`, `NAME_KEY` and `NAME_CA`.

        `protocols` are those that clients may agree on (ALPN).

        Raises:
            StartError: one of them can't be used.
        """
        self._name = name
        self._certificate, self._key, self._authorities = certificate, key, authorities
        self._protocols = protocols
        self._loaded = self._seen = self._states()
        self._newest = self._load()
        # What servers are given for good: it hands each handshake on to the newest.
        self.context = self._load()
        self.context.sslobject_class = _Greeting
        self.context.sni_callback = self._hand_on

    def look(self) -> None:
        """Load the files again if they have changed, and have not since the last look.

        Whoever replaces several writes one after the other. Files that can't be used are told
        once, and what was loaded before goes on.
        """
        seen, self._seen = self._seen, self._states()
        if self._seen == self._loaded or self._seen != seen:
            return
        self._loaded = self._seen
        try:
            self._newest = self._load()
        except StartError as error:
            log.error("certificate not renewed", reason=str(error))  # noqa: TRY400 - it says all
        else:
            log.info("certificate renewed", file=str(self._certificate))

    def _hand_on(self, handshake: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        handshake.context = self._newest

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._protocols:
            context.set_alpn_protocols(self._protocols)
        _load_own(context, self._name, self._certificate, self._key)
        if self._authorities is not None:
            _load_authorities(context, f"{self._name}_CA", self._authorities)
            context.verify_mode = ssl.CERT_REQUIRED
            # A session that goes on is not verified again, whoever is trusted by then.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        return context

    def _states(self) -> list[_State]:
        files = (self._certificate, self._key, self._authorities)
        return [_state(file) for file in files if file is not None]


async def watch(*all_tls: ServerTls) -> None:
    """Look at the files every few seconds, for ever."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for tls in all_tls:
            await asyncio.to_thread(tls.look)


def link_tls(settings: Settings) -> ssl.SSLContext:
    """Return how to speak TLS with the broker of MQTT_URL.

    Raises:
        StartError: a file for it can't be used.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.mqtt_url_tls_ca is not None:
        # These authorities, and none of the system's beside them.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _load_authorities(context, "MQTT_URL_TLS_CA", settings.mqtt_url_tls_ca)
    _load_own(
        context,
        "MQTT_URL_TLS",
        settings.mqtt_url_tls_certificate,
        settings.mqtt_url_tls_key,
    )
    return context


def _state(file: Path) -> _State:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ctime_ns, found.st_size, found.st_ino


def _load_own(
    context: ssl.SSLContext, name: str, certificate: Path | None, key: Path | None
) -> None:
    if certificate is None or key is None:
        return
    _check_pem(f"{name}_CERTIFICATE", certificate, "certificate")
    _check_pem(f"{name}_KEY", key, "private key")

    def refuse() -> str:
        # Else OpenSSL would ask whoever is at the terminal, and wait.
        raise StartError(f"{name}_KEY: {str(key)!r} is encrypted; give it without a passphrase")

    try:
        context.load_cert_chain(certificate, key, refuse)
    except OSError as error:
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            raise StartError(f"{name}_KEY: is not the key of {name}_CERTIFICATE") from error
        raise StartError(f"{name}_CERTIFICATE, {name}_KEY: can't be used: {error}") from error


def _load_authorities(context: ssl.SSLContext, name: str, authorities: Path) -> None:
    _check_pem(name, authorities, "certificate")
    try:
        context.load_verify_locations(authorities)
    except OSError as error:
        raise StartError(f"{name}: can't be used: {error}") from error


def _check_pem(name: str, file: Path, kind: str) -> None:
    """Refuse by its own setting what can't be read or is something else: OpenSSL names no file."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise StartError(f"{name}: can't read {str(file)!r}: {error.strerror}") from error
    if f"{kind.upper()}-----".encode() not in content:
        raise StartError(f"{name}: {str(file)!r} has no {kind} in PEM format")
