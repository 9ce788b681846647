"""Pages by key: the exact cursor, and the links that lead on."""

import base64
import binascii
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Literal, Protocol, TypeVar
from urllib.parse import urlencode

from fastapi import Query, Request
from starlette.responses import Response

from heliograph.web.errors import JSON_HEADERS, validation_error
from heliograph.web.schemas import PageLimit, Time

Direction = Literal["next", "previous"]
Key = Annotated[Time | None, Query(description="Only what is newer (or older) than this time")]
TheDirection = Annotated[
    Direction | None, Query(description="From the key towards newer (next) or older (previous)")
]
Cursor = Annotated[
    str | None, Query(description="As a Link header gave it; goes before creation_timestamp")
]

_CURSOR = struct.Struct(">qq")


class Row(Protocol):
    """What pages are made of."""

    @property
    def timestamp(self) -> int:
        """When it was made, in microseconds."""
        ...

    @property
    def fingerprint(self) -> int:
        """What tells rows of one time apart."""
        ...


RowT = TypeVar("RowT", bound=Row)
RowT_co = TypeVar("RowT_co", bound=Row, covariant=True)


class Table(Protocol[RowT_co]):
    """A subject of the store that is read in pages."""

    @property
    def page(self) -> Callable[..., Awaitable[Sequence[RowT_co]]]:
        """Return rows before or after a time."""
        ...

    @property
    def page_after(self) -> Callable[..., Awaitable[Sequence[RowT_co]]]:
        """Return rows before or after one row."""
        ...


def encode_cursor(row: Row) -> str:
    """Return an opaque text that names exactly this row."""
    packed = _CURSOR.pack(row.timestamp, row.fingerprint)
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode_cursor(text: str) -> tuple[int, int]:
    """Return the (timestamp, fingerprint) that the cursor names.

    Raises:
        RequestValidationError: it is not one of ours.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        timestamp, fingerprint = _CURSOR.unpack(raw)
    except (ValueError, binascii.Error, struct.error):
        raise validation_error(("query", "cursor"), "cursor", "Not a cursor") from None
    return timestamp, fingerprint


class PageRequest:
    """The parameters of a page, as FastAPI collects them."""

    def __init__(
        self,
        creation_timestamp: Key = None,
        direction: TheDirection = None,
        limit: PageLimit = 64,
        cursor: Cursor = None,
    ) -> None:
        self.key = creation_timestamp
        self.cursor = decode_cursor(cursor) if cursor is not None else None
        self.direction = direction
        self.limit = limit

    @property
    def from_somewhere(self) -> bool:
        """Whether the page starts at a key, rather than at an end."""
        return self.key is not None or self.cursor is not None

    @property
    def forward(self) -> bool:
        """Whether the page goes towards newer rows."""
        default = "next" if self.from_somewhere else "previous"
        return (self.direction or default) == "next"

    async def read(self, table: Table[RowT], sensor: int) -> Sequence[RowT]:
        """Return the page's rows, oldest first."""
        if self.cursor is not None:
            direction = self.direction or "next"
            return await table.page_after(sensor, self.cursor, direction, self.limit)
        return await table.page(sensor, key=self.key, direction=self.direction, limit=self.limit)

    def links(self, path: str, rows: Sequence[Row]) -> str | None:
        """Return the Link header: where there is more, or may be."""
        if not rows:
            return None
        full = len(rows) >= self.limit
        links = []
        if full if self.forward else self.from_somewhere:
            links.append(self._link(path, "next", rows[-1]))
        if self.from_somewhere if self.forward else full:
            links.append(self._link(path, "previous", rows[0]))
        return ", ".join(links) or None

    def _link(self, path: str, direction: Direction, row: Row) -> str:
        query = {"direction": direction, "limit": self.limit, "cursor": encode_cursor(row)}
        return f'<{path}?{urlencode(query)}>; rel="{direction}"'

    def answer(self, request: Request, rows: Sequence[Row], body: bytes) -> Response:
        """Return the page as a response with its links."""
        path = request.scope.get("asked_path", request.scope["path"]).rstrip("/")
        links = self.links(path, rows)
        return json_response(body, {"link": links} if links else None)


def json_response(
    body: bytes, headers: dict[str, str] | None = None, status: int = 200
) -> Response:
    """Return a response for JSON that is encoded already."""
    response = Response(body, status, headers)
    response.raw_headers += JSON_HEADERS
    return response
