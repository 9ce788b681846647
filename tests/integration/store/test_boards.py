"""Boards, on both engines."""

import uuid

import pytest
from msgspec.structs import replace

from heliograph.model.audit import Actor, ActorKind
from heliograph.model.board import Board, BoardSeries, Panel
from heliograph.store import boards as boards_module
from heliograph.store.boards import TooManyBoardsError
from rows import NOON

ALICE = Actor(ActorKind.USER, "alice", "::1")
PANELS = [Panel("chart", [BoardSeries("pump", "flow.rate")], "Flow", "7d", wide=True)]


@pytest.fixture
async def network(store):
    made = await store.networks.create(
        identifier=str(uuid.uuid4()), name="fields", created_at=NOON, owner=None
    )
    return made.identifier


def board(network, name="Lobby", at=NOON):
    return Board(str(uuid.uuid4()), network, name, PANELS, "alice", at, at)


async def test_a_board_is_kept_changed_and_deleted_and_each_is_entered(store, network):
    made = await store.boards.create(board(network), actor=ALICE)
    later = await store.boards.create(board(network, "Roof", NOON + 1))
    assert await store.boards.find(made.identifier.upper(), network) == made
    # It is another network's as little as nobody's.
    assert await store.boards.find(made.identifier, "another") is None
    assert not await store.boards.delete(made.identifier, "another")
    assert await store.boards.page(network, offset=0, limit=10) == ([made, later], 2)
    assert await store.boards.page(network, offset=1, limit=10) == ([later], 2)
    same = await store.boards.change(made, name="Lobby", panels=PANELS, changed_at=NOON + 2)
    assert same == made
    panels = [Panel("values", [BoardSeries("pump", "flow")])]
    after = await store.boards.change(
        made, name="Hall", panels=panels, changed_at=NOON + 3, actor=ALICE
    )
    assert after == replace(made, name="Hall", panels=panels, changed_at=NOON + 3)
    assert await store.boards.delete(made.identifier.upper(), network, actor=ALICE)
    assert not await store.boards.delete(made.identifier, network)
    assert await store.boards.change(made, name="x", panels=[], changed_at=NOON) is None
    entries = await store.audit.list(resource=made.identifier, limit=10)
    assert [each.action for each in entries] == ["board.delete", "board.change", "board.create"]
    assert bytes(entries[1].changes) == b'{"name":{"old":"Lobby","new":"Hall"},"panels":{}}'


async def test_a_network_has_so_many_boards_and_they_go_with_it(store, network, monkeypatch):
    monkeypatch.setattr(boards_module, "MAXIMUM_BOARDS", 1)
    made = await store.boards.create(board(network))
    with pytest.raises(TooManyBoardsError):
        await store.boards.create(board(network))
    assert await store.boards.create(board(str(uuid.uuid4()))) is None
    await store.networks.delete(network)
    assert await store.boards.find(made.identifier, network) is None
