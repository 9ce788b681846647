"""TLS as the settings have it: with devices at the listener, and with the broker of MQTT_URL."""

import ssl
from pathlib import Path

from heliograph.errors import StartError
from heliograph.settings import Settings


def listener_tls(settings: Settings) -> ssl.SSLContext:
    """Return how the listener speaks TLS with devices.

    Raises:
        StartError: a file for it can't be used.
    """
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
