"""What systemd hands over and is told, by its variables alone."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from heliograph import systemd
from heliograph.errors import StartError
from heliograph.systemd import HandedSockets, Manager


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "notify"))
        receiving.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiving


def handed(found: socket.socket, monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Give the process a socket as systemd does, but for its number."""
    monkeypatch.setattr(systemd, "_FIRST", found.detach())
    given = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a", **variables}
    for name, value in given.items():
        monkeypatch.setenv(name, value)


def test_it_tells_and_its_children_do_not(told: socket.socket) -> None:
    manager = Manager()
    assert "NOTIFY_SOCKET" not in os.environ
    manager.tell("READY=1")
    assert told.recv(100) == b"READY=1"


def test_a_name_that_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind("")
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + receiving.getsockname()[1:].decode())
        Manager().tell("STOPPING=1")
        receiving.setblocking(False)
        assert receiving.recv(100) == b"STOPPING=1"


def test_nobody_to_tell_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Manager().tell("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Manager().tell("READY=1")


@pytest.mark.parametrize(
    ("process", "wanted", "seconds"),
    [("", "60000000", 60.0), ("me", "500000", 0.5), ("1", "500000", 0.0), ("", "", 0.0)],
)
def test_the_watchdog_is_meant_for_this_process(
    monkeypatch: pytest.MonkeyPatch, process: str, wanted: str, seconds: float
) -> None:
    monkeypatch.setenv("WATCHDOG_PID", process.replace("me", str(os.getpid())))
    monkeypatch.setenv("WATCHDOG_USEC", wanted)
    assert Manager().watchdog_seconds == seconds


async def test_signs_of_life_come_within_the_time(
    told: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    task = asyncio.create_task(Manager().keep_alive(), name="watchdog")
    for _ in range(3):
        assert await asyncio.to_thread(told.recv, 100) == b"WATCHDOG=1"
    task.cancel()


async def test_no_watchdog_wants_no_signs() -> None:
    await Manager().keep_alive()


def test_a_socket_is_taken_by_its_address_once(monkeypatch: pytest.MonkeyPatch) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    handed(listening, monkeypatch)
    given = HandedSockets.received()
    assert not {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} & set(os.environ)
    # One for everybody must not stand in for one of this machine alone, nor the other way round.
    assert given.take("0.0.0.0", port) is None
    assert given.take("127.0.0.1", 0) is None
    with pytest.raises(StartError, match=rf"listens on 127\.0\.0\.1:{port}, where no setting"):
        given.require_none_left()
    taken = given.take("localhost", port)
    assert taken is not None
    with taken:
        assert not taken.get_inheritable()
        assert given.take("127.0.0.1", port) is None
        given.require_none_left()


def test_what_nobody_took_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    handed(socket.create_server(("127.0.0.1", 0)), monkeypatch)
    given = HandedSockets.received()
    given.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(systemd._FIRST)


def test_sockets_of_another_process_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    HandedSockets.received().require_none_left()


@pytest.mark.parametrize(
    ("family", "kind"),
    [(socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM)],
)
def test_what_does_not_listen_for_tcp_is_refused(
    monkeypatch: pytest.MonkeyPatch, family: int, kind: int
) -> None:
    handed(socket.socket(family, kind), monkeypatch)
    with pytest.raises(StartError, match="LISTEN_FDS: descriptor"):
        HandedSockets.received()
