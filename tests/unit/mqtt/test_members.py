"""Client ids of servers that are gone, given back where they could not be read out."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from heliograph.errors import StoreUnavailableError
from heliograph.mqtt import members
from heliograph.mqtt.link import LinkError
from server import eventually

ME = "this server"


class Entries:
    """Who has which client id; what is `lost` is done once without an answer."""

    def __init__(self):
        self.holders = {"a": "gone"}
        self.lost = False
        self.refused = 0

    async def orphaned(self, _broker):
        return [(name, holder) for name, holder in self.holders.items() if holder in ("", "gone")]

    async def take(self, _broker, client_id, holder, token):
        if self.holders[client_id] != holder:
            self.refused += 1
            return False
        self.holders[client_id] = token
        if self.lost:
            self.lost = False
            raise StoreUnavailableError("away")
        return True

    async def forget(self, _broker, client_id, _token):
        del self.holders[client_id]


@pytest.fixture
async def entries(monkeypatch):
    """Run with what reading out comes to: a list of errors, then all is read."""
    monkeypatch.setattr(members, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(members, "LOOKS", 1)
    entries, entries.results = Entries(), []

    async def read_out(_legacy, _is_ours):
        if entries.results and (result := entries.results.pop(0)) is not None:
            raise result
        return True

    monkeypatch.setattr(members.Legacy, "read_out", read_out)
    monkeypatch.setattr(members.Legacy, "__init__", lambda *_: None)
    link = SimpleNamespace(host=None, broker="b", options_of=str)
    running = asyncio.create_task(members.Legacies(link, entries, ME).run())
    yield entries
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("error", [LinkError("no"), StoreUnavailableError("away")], ids=repr)
async def test_what_could_not_be_read_is_looked_at_again(entries, error):
    entries.results.append(error)
    await eventually(lambda: not entries.holders)


async def test_what_was_taken_without_an_answer_is_looked_at_again(entries):
    entries.lost = True
    await eventually(lambda: not entries.holders)


async def test_whose_owner_is_back_is_not_given_back(entries, monkeypatch):
    async def read_out(_legacy, _is_ours):
        entries.holders["a"] = "owner"
        return False

    monkeypatch.setattr(members.Legacy, "read_out", read_out)
    await eventually(lambda: entries.refused)
    assert entries.holders == {"a": "owner"}
