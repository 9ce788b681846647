"""Boards as they are stored: each belongs to a network, and goes with it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from heliograph.model.audit import SYSTEM, Actor, AuditAction, AuditedChange
from heliograph.model.board import MAXIMUM_BOARDS, Board, Panel
from heliograph.store.audit import Changes, enter
from heliograph.store.engine import Subject, Transaction, json_text


class TooManyBoardsError(Exception):
    """The network has `MAXIMUM_BOARDS`."""


class Boards(Subject):
    """The boards of all networks."""

    async def page(self, network: str, *, offset: int, limit: int) -> tuple[list[Board], int]:
        """Return a page of the network's boards, oldest first, and how many there are."""
        return await self._page(_board, "boards", {"network": network}, offset=offset, limit=limit)

    async def find(self, identifier: str, network: str) -> Board | None:
        """Return the network's board with this UUID (in any case)."""
        return await self._one(_board, "board_find", identifier=identifier.lower(), network=network)

    async def create(self, board: Board, *, actor: Actor = SYSTEM) -> Board | None:
        """Keep a new board; None: there is no such network.

        Raises:
            TooManyBoardsError: the network has as many as it may.
        """

        async def work(transaction: Transaction) -> Board | None:
            network = board.network_identifier
            if not await transaction.fetch("network_locked", identifier=network):
                return None
            [(count,)] = await transaction.fetch("boards_count", network=network)
            if count >= MAXIMUM_BOARDS:
                raise TooManyBoardsError
            rows = await transaction.fetch(
                "board_create",
                identifier=board.identifier,
                network=network,
                name=board.name,
                panels=json_text(board.panels),
                author=board.author,
                created_at=board.created_at,
            )
            made = _board(*rows[0])
            await enter(transaction, actor, [_entry(AuditAction.BOARD_CREATE, made, {})])
            return made

        return await self._engine.change(work)

    async def change(
        self,
        board: Board,
        *,
        name: str,
        panels: Sequence[Panel],
        changed_at: int,
        actor: Actor = SYSTEM,
    ) -> Board | None:
        """Change a board; None: there is none any more. What is equal is not written."""

        async def work(transaction: Transaction) -> Board | None:
            which = {"identifier": board.identifier, "network": board.network_identifier}
            # In the order in which whoever deletes a network locks.
            await transaction.fetch("network_locked", identifier=board.network_identifier)
            rows = await transaction.fetch("board_find", **which)
            if not rows:
                return None
            before = _board(*rows[0])
            changes: Changes = {}
            if name != before.name:
                changes["name"] = {"old": before.name, "new": name}
            if list(panels) != before.panels:
                changes["panels"] = {}
            if not changes:
                return before
            rows = await transaction.fetch(
                "board_change",
                identifier=board.identifier,
                name=name,
                panels=json_text(panels),
                changed_at=changed_at,
            )
            after = _board(*rows[0])
            await enter(transaction, actor, [_entry(AuditAction.BOARD_CHANGE, after, changes)])
            return after

        return await self._engine.change(work)

    async def delete(self, identifier: str, network: str, *, actor: Actor = SYSTEM) -> bool:
        """Delete the network's board; tell whether there was one."""

        async def work(transaction: Transaction) -> bool:
            rows = await transaction.fetch(
                "board_delete", identifier=identifier.lower(), network=network
            )
            if rows:
                gone = _entry(AuditAction.BOARD_DELETE, _board(*rows[0]), {})
                await enter(transaction, actor, [gone])
            return bool(rows)

        return await self._engine.change(work)


def _board(*columns: Any) -> Board:
    identifier, network, name, panels, *rest = columns
    return Board(identifier, network, name, msgspec.json.decode(panels, type=list[Panel]), *rest)


def _entry(action: AuditAction, board: Board, changes: Changes) -> AuditedChange:
    return AuditedChange(action, board.identifier, board.name, board.network_identifier, changes)
