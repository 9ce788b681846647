"""Connections by address, so that nobody takes all that there is room for."""

from collections import Counter

from heliograph.address import network_of


class PerAddress(Counter[str]):
    """How many connections each address has, and each IPv6 network (/64).

    A single host has all addresses of a /64, but a whole site may be in one, too: so it may have
    half of all connections, and no less than one address.
    """

    def enter(self, address: str) -> None:
        """Count a connection."""
        for name in _names(address):
            self[name] += 1

    def leave(self, address: str) -> None:
        """Forget a connection that was counted."""
        for name in _names(address):
            self[name] -= 1
            if self[name] <= 0:
                del self[name]

    def is_full(self, address: str, most: int, of_all: int) -> bool:
        """Return whether the address has `most` connections, or its network half `of_all`."""
        own, *networks = _names(address)
        of_network = max(most, of_all // 2)
        return self[own] >= most or any(self[name] >= of_network for name in networks)


def _names(address: str) -> tuple[str, ...]:
    network = network_of(address)
    return (address,) if network == address else (address, network)
