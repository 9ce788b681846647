"""Where devices' messages come from over MQTT, as the settings have it."""

import os
import ssl
from pathlib import Path

import structlog

from heliograph.broker_url import parse_broker_url
from heliograph.errors import StartError
from heliograph.ingest.endpoint import Endpoint
from heliograph.mqtt.limits import ListenerLimits
from heliograph.mqtt.link import Link, LinkOptions
from heliograph.mqtt.listener import Listener
from heliograph.settings import Settings

log = structlog.get_logger()


def make_listener(settings: Settings, endpoint: Endpoint) -> Listener:
    """Return the listener, which does not listen yet."""
    limits = ListenerLimits(
        connections=settings.mqtt_max_connections,
        connections_per_address=settings.mqtt_max_connections_per_address,
        connections_per_principal=settings.mqtt_max_connections_per_principal,
        receive_maximum=settings.mqtt_receive_maximum,
        connect_seconds=settings.mqtt_connect_timeout,
        messages_per_minute=settings.rate_limit_mqtt,
    )
    return Listener(endpoint, limits)


async def listen(settings: Settings, listener: Listener) -> None:
    """Let devices connect.

    Raises:
        StartError: not at one of the addresses.
    """
    tls = _listener_tls(settings) if settings.mqtt_tls_listen else None
    addresses = [(address, None) for address in settings.mqtt_listen]
    for address, context in [*addresses, *((a, tls) for a in settings.mqtt_tls_listen)]:
        try:
            await listener.listen(address.host, address.port, context)
        except OSError as error:
            await listener.close_sources()
            raise StartError(
                f"MQTT_LISTEN: can't listen on {address}: {os.strerror(error.errno or 0)}"
            ) from error
        log.info("listening for MQTT", address=str(address), tls=context is not None)


def make_link(settings: Settings, endpoint: Endpoint) -> Link:
    """Return the link to the broker of MQTT_URL, not connected yet.

    Raises:
        StartError: a file for TLS can't be used.
    """
    broker = parse_broker_url(settings.mqtt_url or "")
    password = settings.mqtt_password
    options = LinkOptions(
        client_id=settings.mqtt_client_id,
        username=settings.mqtt_username,
        password=password.get_secret_value() if password is not None else None,
        shared=settings.mqtt_shared,
        keepalive=settings.mqtt_keepalive,
        receive_maximum=settings.mqtt_receive_maximum,
        tls=link_tls(settings) if broker.tls else None,
        server_name=settings.mqtt_url_tls_server_name,
    )
    return Link(endpoint, broker, options)


def _listener_tls(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_own(context, "MQTT_TLS_CERTIFICATE", settings.mqtt_tls_certificate, settings.mqtt_tls_key)
    if settings.mqtt_tls_ca is not None:
        _load_authorities(context, "MQTT_TLS_CA", settings.mqtt_tls_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


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
        "MQTT_URL_TLS_CERTIFICATE",
        settings.mqtt_url_tls_certificate,
        settings.mqtt_url_tls_key,
    )
    return context


def _load_own(
    context: ssl.SSLContext, name: str, certificate: Path | None, key: Path | None
) -> None:
    if certificate is None:
        return
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"{name}: can't be used: {error}") from error


def _load_authorities(context: ssl.SSLContext, name: str, authorities: Path) -> None:
    try:
        context.load_verify_locations(authorities)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"{name}: can't be used: {error}") from error
