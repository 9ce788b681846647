"""Addresses: to listen on, written host:port; of this machine; of e-mail."""

import ipaddress
import re
from typing import NamedTuple

_EVERYWHERE = frozenset({"0.0.0.0", "::"})
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s\[\]:/@]+)):([0-9]{1,5})", re.ASCII)

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_MAILBOX = re.compile(
    rf"(?=.{{3,254}}\Z)(?=[^@]{{1,64}}@){_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})*"
)


class Address(NamedTuple):
    """Where to listen; port 0 is any free one."""

    host: str
    port: int

    def overlaps(self, other: "Address") -> bool:
        """Return whether only one of the two can be listened on; IPv4 and IPv6 are apart."""
        if self.port != other.port or not self.port:
            return False
        same_family = (":" in self.host) == (":" in other.host)
        anywhere = not _EVERYWHERE.isdisjoint({self.host, other.host})
        return self.host == other.host or (same_family and anywhere)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches what listens here."""
        return is_loopback(self.host)

    @property
    def from_here(self) -> "Address":
        """The address by which this machine reaches what listens here."""
        return Address("localhost", self.port) if self.host in _EVERYWHERE else self

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return the address that the text names.

    Raises:
        ValueError: it names none.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > 65_535:
        raise ValueError(f"{text!r} is not host:port; allowed: like 0.0.0.0:1883 or [::]:1883")
    return Address(match[1] or match[2], int(match[3]))


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine itself: localhost, 127.0.0.0/8 or ::1."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_mailbox(text: str) -> bool:
    """Return whether a text is an e-mail address such as `operator@example.org`, in ASCII."""
    return _MAILBOX.fullmatch(text) is not None


def network_of(address: str) -> str:
    """Return the address, or an IPv6 address's /64: a single host has all of that.

    An IPv4 address that an IPv6 socket tells (`::ffff:192.0.2.1`) is itself.
    """
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))
