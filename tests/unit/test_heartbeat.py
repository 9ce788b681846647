"""Signs of life: called while data is taken, failures told once, and no log has the URL."""

import asyncio
import contextlib

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from heliograph import heartbeat as module
from heliograph.heartbeat import HeartbeatSender
from receiver import OK, receiving
from server import eventually

SECRET = "2f1c9d34-canary"
GONE = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
MOVED = b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\n\r\n"


class Watched:
    """A server as the heartbeat sees it; each look at its state is one turn of the minute."""

    def __init__(self, url: str | None, *well: bool):
        self.url = url
        self.well = list(well)

    def secret(self):
        return None if self.url is None else SecretStr(self.url)

    async def takes_data(self):
        return self.well.pop(0) if self.well else False


@contextlib.asynccontextmanager
async def beating(watched, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL_SECONDS", 0)
    heartbeat = HeartbeatSender(watched.secret, watched.takes_data)
    task = asyncio.create_task(heartbeat.run(), name="heartbeat")
    try:
        with capture_logs() as lines:
            yield lines
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert SECRET not in str(lines)


async def test_failures_are_told_once_and_so_is_the_end_of_them(monkeypatch):
    async with receiving(OK, GONE, MOVED, OK, OK) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/{SECRET}"
        watched = Watched(url, True, False, True, True, True, True)
        async with beating(watched, monkeypatch) as lines:
            await eventually(lambda: not watched.well and len(receiver.requests) == 5)
        assert all(each.startswith(b"GET /2f1c9d34-canary HTTP/1.1") for each in receiver.requests)
    told = [(line["event"], line.get("reason")) for line in lines]
    assert told == [
        ("heartbeat not delivered", "answered 404"),
        ("heartbeat delivered again", None),
    ]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"http://127.0.0.1:1/{SECRET}", "connection"),
        (f"http://[::{SECRET}/", "no URL"),
    ],
    ids=["refused", "no name"],
)
async def test_what_cannot_be_called_ends_nothing(monkeypatch, url, said):
    watched = Watched(url, True, True)
    async with beating(watched, monkeypatch) as lines:
        await eventually(lambda: not watched.well)
    assert [line["event"] for line in lines] == ["heartbeat not delivered"]
    assert said.lower() in lines[0]["reason"].lower()


async def test_a_watcher_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(module, "CALL_SECONDS", 0.05)
    limits, client = [], httpx.AsyncClient

    def made(**options):
        made = client(**options)
        limits.append(made.timeout)
        return made

    monkeypatch.setattr(httpx, "AsyncClient", made)
    async with receiving(None) as receiver:
        watched = Watched(f"http://127.0.0.1:{receiver.port}/{SECRET}", True)
        async with beating(watched, monkeypatch) as lines:
            await eventually(lambda: lines)
    assert lines[0]["reason"] == "no answer within 0.05 s"
    assert limits == [httpx.Timeout(0.05)]  # by itself it would give up after five seconds


async def test_without_a_url_nobody_is_called(monkeypatch):
    watched = Watched(None, True)
    async with beating(watched, monkeypatch) as lines:
        for _ in range(5):
            await asyncio.sleep(0)
    assert watched.well == [True]
    assert lines == []
