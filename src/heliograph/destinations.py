"""Which addresses the server may connect to for its users: the internet's, and what is allowed.

Whoever may define a webhook must not reach through it what only this machine reaches: its own
services, the neighbours' ones, a cloud's metadata. Pure, and so asked wherever a connection is
made, of the address that it is made to.
"""

import re
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import NamedTuple, TypeAlias

IpAddress: TypeAlias = IPv4Address | IPv6Address

_HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*"
)
_WITH_PORT = re.compile(r"(?:\[([^\]]+)\]|([^\[\]:]+)):([0-9]{1,5})", re.ASCII)
# RFC 6052, with an IPv4 address within; of unicast: tunnels to IPv4 (4380, 3056), examples (9637).
_PROTOCOLS = IPv4Network("192.0.0.0/24")  # RFC 6890, in which single addresses are global
_NAT64 = IPv6Network("64:ff9b::/96")
_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC = (IPv6Network("2001::/32"), IPv6Network("2002::/16"), IPv6Network("3fff::/20"))


class Destination(NamedTuple):
    """What is allowed beside the internet: a host by its name or a network; port None: any."""

    host: str
    network: IPv4Network | IPv6Network | None
    port: int | None

    def covers(self, host: str, address: IpAddress, port: int) -> bool:
        """Return whether this is where a connection to the host leads, made to the address."""
        if self.port not in (None, port):
            return False
        if self.network is None:
            return host.rstrip(".").lower() == self.host
        return address in self.network

    def __str__(self) -> str:
        text = self.host
        if self.port is None:
            return text
        return f"[{text}]:{self.port}" if ":" in text else f"{text}:{self.port}"


def parse_destination(text: str) -> Destination:
    """Return the destination that a text like `10.0.0.0/8`, `[fd00::1]:8080` or `nas.lan:80` names.

    Raises:
        ValueError: it names none.
    """
    host, port = text, None
    if found := _WITH_PORT.fullmatch(text):
        host, port = found[1] or found[2], int(found[3])
    try:
        network = ip_network(host)
    except ValueError:
        network = None
    is_name = _HOST.fullmatch(host.lower()) and not re.fullmatch(r"[0-9a-fx.]*[0-9]", host.lower())
    if (network is None and not is_name) or (port is not None and not 0 < port < 1 << 16):
        raise ValueError(
            f"{text[:60]!r} is no destination; allowed: like 10.0.0.0/8, 192.168.1.5:8080,"
            " [fd00::1]:8080 or nodered.lan:1880"
        )
    return Destination(host.lower() if network is None else str(network), network, port)


def is_public(address: IpAddress) -> bool:
    """Return whether an address is one of the internet, and no way to another that is not."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and address not in _PROTOCOLS
    return (
        address in _UNICAST
        and address.is_global
        and not any(address in network for network in _NOT_PUBLIC)
    )


def actual(address: IpAddress) -> IpAddress:
    """Return the IPv4 address that a connection to an IPv6 one leads to, or the address itself.

    That is so of IPv4-mapped ones, and behind the gateway of a network that has IPv6 only (NAT64).
    """
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def may_reach(
    host: str, address: IpAddress | str, port: int, allowed: tuple[Destination, ...]
) -> bool:
    """Return whether a connection that is meant for the host may be made to the address."""
    leads_to = actual(ip_address(address) if isinstance(address, str) else address)
    return is_public(leads_to) or any(each.covers(host, leads_to, port) for each in allowed)
