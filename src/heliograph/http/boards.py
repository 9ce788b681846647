"""Boards: chosen charts and values of a network on one page."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import AfterValidator, ConfigDict, Field
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.errors import ErrorCode
from heliograph.http.access import not_found
from heliograph.http.lists import listed
from heliograph.http.members import Body
from heliograph.http.ranges import range_length
from heliograph.http.records import Representation
from heliograph.http.resources import KnownCall, Refusals, Resource, TheCall, found, refusals
from heliograph.http.schemas import ListLimit, Offset, Storable, Text
from heliograph.model.board import (
    MAXIMUM_BOARDS,
    MAXIMUM_PANELS,
    MAXIMUM_SERIES,
    Board,
    BoardSeries,
    Panel,
)
from heliograph.model.sensor import LONGEST_TEXT
from heliograph.model.time import now, to_rfc3339
from heliograph.store.boards import TooManyBoardsError

router = Resource("networks", "/networks/{network_identifier}/boards")

REFUSALS: Refusals = {
    TooManyBoardsError: (
        ErrorCode.TOO_MANY_BOARDS,
        f"The network has {MAXIMUM_BOARDS} boards already: delete some",
    )
}
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT), Storable]


def _range(text: str) -> str:
    range_length(text)
    return text


class SeriesRepresentation(Representation):
    """What a panel shows of a sensor."""

    sensor: Annotated[str, "The sensor's UUID"]
    attribute: Annotated[str, "The name of its attribute; a nested one as a dotted path"]


class PanelRepresentation(Representation):
    """A part of a board."""

    kind: Annotated[str, "`chart`: how its attributes went; `values`: their newest values"]
    series: Annotated[list[SeriesRepresentation], "What it shows"]
    title: Annotated[str | None, "What stands above it"]
    range: Annotated[str, "How far back a chart goes: `24h`, say"]
    wide: Annotated[bool, "Whether it takes the width of two"]


class BoardRepresentation(Representation):
    """A board."""

    id: Annotated[str, "Its UUID"]
    network_identifier: Annotated[str, "The UUID of its network"]
    name: Annotated[str, "What people call it"]
    panels: Annotated[list[PanelRepresentation], "What is on it, in this order"]
    author: Annotated[str | None, "Who made it, as in the audit log"]
    created_at: Annotated[str, "When it was made (RFC 3339, UTC)"]
    changed_at: Annotated[str, "When it was changed last (RFC 3339, UTC)"]

    @classmethod
    def of(cls, board: Board) -> Self:
        """Return the board as it is shown."""
        return cls(
            board.identifier,
            board.network_identifier,
            board.name,
            msgspec.convert(board.panels, list[PanelRepresentation], from_attributes=True),
            board.author,
            to_rfc3339(board.created_at),
            to_rfc3339(board.changed_at),
        )


class SeriesBody(Body):
    """An attribute of a sensor of the network."""

    model_config = ConfigDict(title="NewSeries")

    sensor: Text = Field(description="The sensor's UUID or `device_id`")
    attribute: Name = Field(description="The name of its attribute; a nested one as a dotted path")


class PanelBody(Body):
    """A part of a board."""

    model_config = ConfigDict(title="NewPanel")

    kind: Literal["chart", "values"] = Field(
        description="`chart`: how its attributes went; `values`: their newest values"
    )
    series: list[SeriesBody] = Field(
        min_length=1, max_length=MAXIMUM_SERIES, description="What it shows"
    )
    title: Text | None = Field(default=None, description="What stands above it")
    range: Annotated[str, AfterValidator(_range)] = Field(
        default="24h", description="How far back a chart goes: like 90s, 15m, 24h, 7d, 4w"
    )
    wide: bool = Field(default=False, description="Whether it takes the width of two")


Panels = Annotated[list[PanelBody], Field(max_length=MAXIMUM_PANELS)]


class NewBoard(Body):
    """A board that is to be kept."""

    representation = BoardRepresentation

    name: Name
    panels: Panels = Field(default_factory=list)


class BoardChange(Body):
    """What is to change; members that are not present stay as they are."""

    representation = BoardRepresentation
    is_change = True

    # The factories keep made-up defaults out of OpenAPI; they are never looked at.
    name: Name = Field(default_factory=str)
    panels: Panels = Field(default_factory=list)


@router.route("", "POST", faults=[404, 409])
async def create_board(
    network_identifier: str, board: NewBoard, call: TheCall
) -> BoardRepresentation:
    """Make a board of a network; its sensors are of that network."""
    network = await call.network(network_identifier, Action.EDIT)
    moment = now()
    new = Board(
        str(uuid.uuid4()),
        network.identifier,
        board.name,
        await _panels(call, network.identifier, board.panels, frozenset()),
        call.actor.name,
        moment,
        moment,
    )
    with refusals(REFUSALS):
        made = await call.store.boards.create(new, actor=call.actor)
    return BoardRepresentation.of(found(made, ErrorCode.NETWORK_NOT_FOUND))


@router.route("", "GET", shown=list[BoardRepresentation])
async def list_boards(
    network_identifier: str, call: TheCall, offset: Offset = 0, limit: ListLimit = 1_000
) -> Response:
    """List a network's boards, oldest first; `X-Total-Count` says how many."""
    network = await call.network(network_identifier)

    async def read(offset: int, limit: int) -> tuple[Sequence[BoardRepresentation], int]:
        page, total = await call.store.boards.page(network.identifier, offset=offset, limit=limit)
        return [BoardRepresentation.of(board) for board in page], total

    return await listed(call, offset, limit, read)


@router.route("/{board_id}", "GET")
async def read_board(network_identifier: str, board_id: str, call: TheCall) -> BoardRepresentation:
    """Read a board."""
    return BoardRepresentation.of(await _found(call, network_identifier, board_id, Action.VIEW))


@router.route("/{board_id}", "PUT")
async def change_board(
    network_identifier: str, board_id: str, change: BoardChange, call: TheCall
) -> BoardRepresentation:
    """Change a board; members that are absent stay as they are, `panels` are replaced whole."""
    board = await _found(call, network_identifier, board_id, Action.EDIT)
    change.check_read_only(BoardRepresentation.of(board))
    given = change.model_fields_set
    panels = board.panels
    if "panels" in given:
        kept = frozenset(each.sensor for panel in board.panels for each in panel.series)
        panels = await _panels(call, board.network_identifier, change.panels, kept)
    changed = await call.store.boards.change(
        board,
        name=change.name if "name" in given else board.name,
        panels=panels,
        changed_at=now(),
        actor=call.actor,
    )
    return BoardRepresentation.of(found(changed, ErrorCode.BOARD_NOT_FOUND))


@router.route("/{board_id}", "DELETE")
async def delete_board(network_identifier: str, board_id: str, call: TheCall) -> None:
    """Delete a board."""
    board = await _found(call, network_identifier, board_id, Action.EDIT)
    deleted = await call.store.boards.delete(
        board.identifier, board.network_identifier, actor=call.actor
    )
    if not deleted:
        raise not_found(ErrorCode.BOARD_NOT_FOUND)


async def _found(call: KnownCall, network_identifier: str, board_id: str, action: Action) -> Board:
    """Return a network's board if the caller may do this with what is in the network.

    Raises:
        HeliographError: NETWORK_NOT_FOUND or BOARD_NOT_FOUND, none for this caller; FORBIDDEN.
    """
    network = await call.network(network_identifier, action)
    board = await call.store.boards.find(board_id, network.identifier)
    return found(board, ErrorCode.BOARD_NOT_FOUND)


async def _panels(
    call: KnownCall, network: str, panels: Sequence[PanelBody], kept: frozenset[str]
) -> list[Panel]:
    """Return panels as they are stored; `kept` are sensors that may have left the network.

    Raises:
        HeliographError: SENSOR_NOT_FOUND, one is not of the network.
    """
    identifiers: dict[str, str] = {}

    async def sensor(name: str) -> str:
        if name not in identifiers:
            known = await call.registry.find(name)
            if known is not None and known.network_identifier == network:
                identifiers[name] = known.identifier
            elif name in kept:
                identifiers[name] = name
            else:
                raise not_found(ErrorCode.SENSOR_NOT_FOUND)
        return identifiers[name]

    made = []
    for panel in panels:
        members: dict[str, Any] = panel.model_dump(exclude={"series"})
        series = [BoardSeries(await sensor(each.sensor), each.attribute) for each in panel.series]
        made.append(Panel(series=series, **members))
    return made
