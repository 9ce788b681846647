"""Sends one notice through Apprise, in a process of its own that can do little else.

Apprise is made of hundreds of plugins by as many authors, which connect wherever they like. An
audit hook sees each connection, at the address that it is made to, each file and each process; what
is not wanted is refused before it happens.

usage: python -I -B -m heliograph.processing.chat_worker   (a request, a JSON object, on its input)
"""

import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from heliograph.destinations import Destination, may_reach, parse_destination

NOT_INSTALLED = "chats need the package apprise: pip install 'heliograph[apprise]'"

_REFUSED = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.system",
        "pty.spawn",
        "socket.sendmsg",
        "socket.sendto",
        "subprocess.Popen",
    }
)


class RefusedError(PermissionError):
    """A plugin tried what it may not do."""


class Guard:
    """Decides what may happen while a notice is sent."""

    def __init__(self, hosts: Sequence[str] | None, allowed: tuple[Destination, ...]) -> None:
        """Take the hosts that may be connected to (None: any; `.x` is all below x).

        `allowed` is what may be reached beside the addresses of the internet.
        """
        self._hosts = hosts
        self._allowed = allowed
        self._looked_up = ""
        self.refusals: list[str] = []

    def check(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Let an event of Python's audit happen.

        Raises:
            RefusedError: it may not.
        """
        if event in _REFUSED:
            self._refuse(f"{event} is refused")
        elif event == "open":
            _, mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
                self._refuse("to write a file is refused")
        elif event == "socket.getaddrinfo":
            self._looked_up = _as_text(arguments[0])
            self._check_host(self._looked_up)
        elif event == "socket.connect":
            self._check_address(arguments[1])

    def _check_host(self, host: str) -> None:
        name = host.rstrip(".").lower()
        if self._hosts is not None and not any(
            name.endswith(each) if each.startswith(".") else name == each for each in self._hosts
        ):
            self._refuse(f"{host} is not where such notices are sent")

    def _check_address(self, address: Any) -> None:
        if not isinstance(address, tuple):
            self._refuse("a socket of this machine is refused")
        host, port = _as_text(address[0]), int(address[1])
        if not may_reach(self._looked_up or host, host, port, self._allowed):
            self._refuse(
                f"{self._looked_up or host} leads to {host}, which is not of the internet;"
                " WEBHOOK_ALLOW may name it"
            )

    def _refuse(self, reason: str) -> None:
        self.refusals.append(reason)
        raise RefusedError(reason)


class LastWords(logging.Handler):
    """Keeps what was last warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.text = record.getMessage()


def send(request: dict[str, Any]) -> dict[str, Any]:
    """Send the notice; return as `error` why it was not sent, and whether that is `final`."""
    try:
        import apprise  # noqa: PLC0415 - an extra
    except ImportError:
        return {"error": NOT_INSTALLED, "final": True}
    words = LastWords()
    logging.getLogger("apprise").addHandler(words)
    logging.lastResort = None
    guard = Guard(request["hosts"], tuple(map(parse_destination, request["allowed"])))
    sys.addaudithook(guard.check)
    plugin = apprise.Apprise.instantiate(
        request["url"], asset=apprise.AppriseAsset(async_mode=False, plugin_paths=[])
    )
    if plugin is None:
        return {"error": "Apprise can't read the URL", "final": True}
    plugin.redirects, plugin.verify_certificate = False, True
    plugin.overflow_mode = apprise.OverflowMode.TRUNCATE
    sender = apprise.Apprise()
    sender.add(plugin)
    if sender.notify(
        title=request["title"], body=request["text"], body_format=apprise.NotifyFormat.TEXT
    ):
        return {"error": None}
    if guard.refusals:
        return {"error": guard.refusals[0], "final": True}
    return {"error": words.text or "not sent", "final": False}


def _as_text(host: Any) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)


if __name__ == "__main__":
    print(json.dumps(send(json.load(sys.stdin))))  # noqa: T201 - its answer
