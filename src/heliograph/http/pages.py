"""Pages by key: the exact cursor, and the links that lead on."""

import base64
import binascii
import struct
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlencode

from fastapi import Query

from heliograph.http.answers import encoded
from heliograph.http.errors import Answer, validation_error
from heliograph.http.resources import KnownCall
from heliograph.http.schemas import PageLimit, Text, Time
from heliograph.store.pages import GREATEST, LEAST, Keyed, Page, Pages, Selection
from heliograph.store.pages import Cursor as Position

Direction = Literal["next", "previous"]
Key = Annotated[
    Time | None,
    Query(description="Only what is newer (or older) than this time: epoch seconds or RFC 3339"),
]
TheDirection = Annotated[
    Direction | None, Query(description="From the key towards newer (next) or older (previous)")
]
Cursor = Annotated[
    str | None, Query(description="As a Link header gave it; goes before creation_timestamp")
]

# There is more of its last time: only the link leads there.
TRUNCATED = (b"x-page-truncated", b"true")

_CURSOR = struct.Struct(">qq")


RowT = TypeVar("RowT", bound=Keyed)
# What the names of all attributes of one value could be together is more than a URL may hold.
MOST_ATTRIBUTES = 100
Attributes = Annotated[
    list[Text] | None,
    Query(
        alias="attribute",
        max_length=MOST_ATTRIBUTES,
        description="Only what has one of these attributes (dotted paths), and of it only these",
    ),
]


def encode_cursor(timestamp: int, number: int) -> str:
    """Return an opaque text for the row that its time and this number tell from all others."""
    packed = _CURSOR.pack(timestamp, number)
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode_cursor(text: str) -> tuple[int, int]:
    """Return the (timestamp, number) that the cursor names.

    Raises:
        RequestValidationError: it is not one of ours.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        timestamp, number = _CURSOR.unpack(raw)
    except (ValueError, binascii.Error, struct.error):
        raise validation_error(("query", "cursor"), "cursor", "Not a cursor") from None
    return timestamp, number


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
        self.attributes: list[str] = []

    @property
    def from_somewhere(self) -> bool:
        """Whether the page starts at a key, rather than at an end."""
        return self.key is not None or self.cursor is not None

    @property
    def forward(self) -> bool:
        """Whether the page goes towards newer rows."""
        default = "next" if self.from_somewhere else "previous"
        return (self.direction or default) == "next"

    def links(self, path: str, page: Page[RowT]) -> str | None:
        """Return the Link header: where there is more, or may be."""
        onward = page.reached if page.more else None
        back = self._back(page) if self.from_somewhere else None
        newer, older = (onward, back) if self.forward else (back, onward)
        links = []
        if newer is not None:
            links.append(self._link(path, "next", newer))
        if older is not None:
            links.append(self._link(path, "previous", older))
        return ", ".join(links) or None

    def _back(self, page: Page[RowT]) -> Position | None:
        """Return from where what the page does not reach back to is read the other way."""
        if page:
            row = page[0] if self.forward else page[-1]
            return row.timestamp, row.fingerprint
        if self.cursor is not None:
            # What the cursor names is beyond it either way: it takes the place next to that.
            return next_to(self.cursor, 1 if self.forward else -1)
        if self.key is not None:
            return (self.key + 1, LEAST) if self.forward else (self.key - 1, GREATEST)
        return None

    def _link(self, path: str, direction: Direction, at: Position) -> str:
        query = [
            ("direction", direction),
            ("limit", str(self.limit)),
            ("cursor", encode_cursor(*at)),
            *(("attribute", name) for name in self.attributes),
        ]
        return f'<{path}?{urlencode(query)}>; rel="{direction}"'

    async def answer(
        self,
        call: KnownCall,
        table: Pages[RowT],
        sensor: int,
        entries: Callable[[Sequence[RowT]], Sequence[Any]],
        select: Selection[RowT] | None = None,
    ) -> Answer:
        """Return the page, oldest first, with its links; its rows become these entries."""
        hold, limit = call.held.at_least, self.limit
        if self.cursor is not None:
            onward = self.direction or "next"
            rows = await table.page_after(sensor, self.cursor, onward, limit, select, hold)
        else:
            key, direction = self.key, self.direction
            rows = await table.page(
                sensor, key=key, direction=direction, limit=limit, select=select, hold=hold
            )
        headers = page_headers(self.links(call.path, rows), rows)
        return Answer(200, await encoded(rows, entries, rows.size), headers)


def page_headers(links: str | None, page: Page[Any]) -> list[tuple[bytes, bytes]]:
    """Return what leads on from a page, and whether it ends between two rows of one time."""
    headers = [(b"link", links.encode("latin-1"))] if links else []
    return [*headers, TRUNCATED] if page.truncated else headers


class MeasurementPageRequest(PageRequest):
    """The parameters of a page of measurements."""

    def __init__(
        self,
        creation_timestamp: Key = None,
        direction: TheDirection = None,
        limit: PageLimit = 64,
        cursor: Cursor = None,
        attributes: Attributes = None,
    ) -> None:
        super().__init__(creation_timestamp, direction, limit, cursor)
        self.attributes = attributes or []


def next_to(at: Position, step: int) -> Position:
    """Return the position right after (1) or before (-1) another; of the last the same."""
    timestamp, number = at
    if LEAST <= number + step <= GREATEST:
        return timestamp, number + step
    if not LEAST <= timestamp + step <= GREATEST:
        return at
    return timestamp + step, LEAST if step > 0 else GREATEST
