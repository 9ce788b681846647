"""What a service manager hands over and is told: sockets, readiness, signs of life.

The protocols are systemd's: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3). Without their
variables in the environment nothing here does anything.
"""

import asyncio
import os
import socket
from typing import Self

import structlog

from heliograph.address import Address
from heliograph.errors import StartError

log = structlog.get_logger()

_FIRST = 3
# Within the manager's time there is room for a sign that comes late.
_SIGNS_IN_TIME = 3


class HandedSockets:
    """Listening sockets that the manager has bound, and keeps while the server starts anew."""

    def __init__(self, sockets: list[socket.socket] | None = None) -> None:
        self._left = sockets or []

    @classmethod
    def received(cls) -> Self:
        """Return what was handed to this process; no process that it starts gets it too.

        Raises:
            StartError: a socket is none that accepts connections over TCP.
        """
        process, count = (os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS"))
        os.environ.pop("LISTEN_FDNAMES", None)
        if process != str(os.getpid()) or not count.isdecimal():
            return cls()
        return cls([_listening(number) for number in range(_FIRST, _FIRST + int(count))])

    def take(self, host: str, port: int) -> socket.socket | None:
        """Return the socket that is bound to this address, for the caller to close; None: none is.

        Raises:
            OSError: the host has no address.
        """
        if not self._left:
            return None
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        named = {address[:2] for *_, address in found}
        for each in self._left:
            if each.getsockname()[:2] in named:
                self._left.remove(each)
                return each
        return None

    def take_all(self, host: str, port: int) -> list[socket.socket]:
        """Return all sockets that are bound to an address of this host, for the caller to close.

        Raises:
            OSError: the host has no address.
        """
        found = []
        while (each := self.take(host, port)) is not None:
            found.append(each)
        return found

    def require_none_left(self) -> None:
        """Refuse sockets that nobody has taken: who connects there would wait for ever.

        Raises:
            StartError: some are left.
        """
        if self._left:
            left = ", ".join(str(Address(*each.getsockname()[:2])) for each in self._left)
            raise StartError(
                f"systemd's socket unit listens on {left}, where no setting has the server listen:"
                " write ListenStream= and the settings (HOST and PORT, MQTT_LISTEN) alike"
            )

    def close(self) -> None:
        """Close what nobody has taken."""
        while self._left:
            self._left.pop().close()


def _listening(number: int) -> socket.socket:
    os.set_inheritable(number, False)
    try:
        found = socket.socket(fileno=number)
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise StartError(f"LISTEN_FDS: descriptor {number} is no socket") from error
    found.setblocking(False)
    if not listens or found.family not in (socket.AF_INET, socket.AF_INET6):
        raise StartError(f"LISTEN_FDS: descriptor {number} does not listen for TCP")
    return found


class Manager:
    """The service manager that started the process, if one did that wants to be told."""

    def __init__(self) -> None:
        """Read its variables; processes that this one starts must not speak for it."""
        self._name = os.environ.pop("NOTIFY_SOCKET", "")
        process, wanted = (os.environ.pop(f"WATCHDOG_{name}", "") for name in ("PID", "USEC"))
        ours = process in ("", str(os.getpid())) and wanted.isdecimal()
        # Seconds within which it wants a sign of life; 0: it wants none.
        self.watchdog_seconds = int(wanted) / 1e6 if ours else 0.0

    def tell(self, state: str) -> None:
        """Tell a state, such as `READY=1`; that it can't be told is logged, and no failure."""
        if not self._name:
            return
        # Linux' own names, which are no files, begin with a zero byte.
        name = "\0" + self._name[1:] if self._name.startswith("@") else self._name
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
                telling.setblocking(False)
                telling.sendto(state.encode(), name)
        except OSError as error:
            log.warning("service manager not told", state=state, reason=error.strerror)

    async def keep_alive(self) -> None:
        """Show that the event loop turns, for ever, if the manager wants to know."""
        while self.watchdog_seconds:
            self.show_life()
            await asyncio.sleep(self.sign_seconds)

    @property
    def sign_seconds(self) -> float:
        """How often to show a sign of life; 0: never."""
        return self.watchdog_seconds / _SIGNS_IN_TIME

    def show_life(self) -> None:
        """Show one sign of life, if the manager wants any."""
        if self.watchdog_seconds:
            self.tell("WATCHDOG=1")
