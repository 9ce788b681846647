"""What `heliograph serve` prints for a person: where it is reached, its admin key, what is next."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from heliograph.address import Address
from heliograph.admin_key import SECRET_KEY_FILE
from heliograph.settings import Settings
from heliograph.store.url import parse_database_url
from heliograph.web.services import Services

DEVICE = "my-first-sensor"


def is_wanted(settings: Settings) -> bool:
    """Return whether a person reads the output, as far as the settings tell."""
    return settings.log_format == "console" and settings.log_level in ("debug", "info")


async def welcome(settings: Settings, services: Services, http: Address) -> str:
    """Return the lines; `settings` are those given, before the server made an admin key."""
    url = f"http://{http.from_here}"
    lines = [
        f"  HTTP           {url}",
        f"  documentation  {url}/docs",
        *(f"  {name:<13}  {address}" for name, address in _mqtt(settings, services)),
        f"  database       {parse_database_url(settings.database_url).place}",
        f"  admin key      {_admin_key(settings)}",
    ]
    _, sensors = await services.store.sensors.list(networks=None, offset=0, limit=1)
    if sensors == 0:
        lines += ["", *_next_step(url)]
    return "\n".join(["", *lines, "", "Ctrl-C ends the server.", ""])


def _mqtt(settings: Settings, services: Services) -> Iterator[tuple[str, Address]]:
    if services.listener is not None:
        encrypted = {address.port for address in settings.mqtt_tls_listen}
        # One for all of IPv4 and one for all of IPv6 are the same name from here.
        for address in dict.fromkeys(Address(*at).from_here for at in services.listener.addresses):
            yield "MQTT, TLS" if address.port in encrypted else "MQTT", address
    if services.link is not None:
        yield "MQTT broker", Address(*services.link.address)


def _admin_key(settings: Settings) -> str:
    if settings.api_secret_key is not None:
        return "as API_SECRET_KEY has it"
    return f"in {settings.data_directory / SECRET_KEY_FILE}"


def _next_step(url: str) -> Iterator[str]:
    yield "Register a device, in a second terminal in this folder, and keep the key that it prints:"
    yield f"    {program()} device create {DEVICE}"
    yield "Send a reading with that key:"
    yield "    curl -H 'X-API-Key: KEY' -H 'Content-Type: application/json' \\"
    yield f"      -d '{{\"temperature\": 22.5}}' {url}/ingest"


def program() -> str:
    """Return how to call this program: by the path it was called by where a shell won't find it."""
    called = sys.argv[0]
    found = shutil.which("heliograph")
    if found is not None and Path(found).resolve() == Path(called).resolve():
        return "heliograph"
    return called
