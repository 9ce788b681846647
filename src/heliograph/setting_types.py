"""How the texts of variables become the values of settings."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from heliograph.address import Address, parse_address

_LABEL = "[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")


def split(value: Any) -> Any:
    """Return the distinct parts of a comma-separated text, in order; anything else as it is."""
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(part for text in value.split(",") if (part := text.strip())))


def lower(value: Any) -> Any:
    """Return a text in lower case; anything else as it is."""
    return value.lower() if isinstance(value, str) else value


def sendable(key: SecretStr) -> SecretStr:
    """Return the key if an HTTP header can carry it.

    Raises:
        ValueError: none can.
    """
    if not re.fullmatch(r"[!-~]{1,256}", key.get_secret_value()):
        raise ValueError("should be 1 to 256 visible ASCII characters without spaces")
    return key


def is_there(path: Path, *, folder: bool = False) -> bool:
    """Return whether there is such a file, or folder; what can't be looked at is none."""
    try:
        return path.is_dir() if folder else path.is_file()
    except OSError:
        return False


def _addresses(value: Any) -> Any:
    return tuple(map(parse_address, split(value))) if isinstance(value, str) else value


def _networks(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return tuple(map(ip_network, split(value)))
    except ValueError as error:
        raise ValueError(f"{error}; allowed: like 127.0.0.1, 10.0.0.0/8") from error


def _host_names(value: Any) -> Any:
    names = split(lower(value))
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(
                f"{name[:60]!r} is no host name; allowed: like heliograph.example.org or"
                " *.example.org"
            )
    return names


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?))?b?", value.strip().lower())
    if not found:
        raise ValueError(
            f"should be a number of bytes like 500MB, 10GB or 1.5GiB, not {value[:60]!r}"
        )
    power = " kmgtp".index(found[2] or " ")
    return round(float(found[1]) * (1_024 if found[3] else 1_000) ** power)


HostNames = Annotated[tuple[str, ...], BeforeValidator(_host_names)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_networks)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(_addresses)]
Bound = Annotated[int, Field(ge=0, le=1_000_000)]
PerMinute = Annotated[int, Field(ge=0, le=100_000_000)]
Days = Annotated[int, Field(ge=0, le=36_500)]
Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=0, le=1 << 60)]
Key = Annotated[SecretStr, AfterValidator(sendable)]
