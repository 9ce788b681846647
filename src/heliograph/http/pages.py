"""Pages by key: the exact cursor, and the links that lead on."""

import base64
import binascii
import struct
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlencode

from fastapi import Query

from heliograph.http.answers import Answer, encoded
from heliograph.http.errors import validation_error
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
        self.limit = limit
        # Whether the page starts at a key, rather than at an end.
        self.from_somewhere = not (creation_timestamp is None and cursor is None)
        self.direction = direction or ("next" if self.from_somewhere else "previous")
        # Whether it goes towards newer rows.
        self.forward = self.direction == "next"

    def links(self, path: str, page: Page[RowT], attributes: Sequence[str] = ()) -> str | None:
        """Return the Link header: where there is more, or may be; of these attributes."""
        onward = page.reached if page.more else None
        back = self._back(page) if self.from_somewhere else None
        newer, older = (onward, back) if self.forward else (back, onward)
        links = []
        for direction, at in (("next", newer), ("previous", older)):
            if at is not None:
                query = {"direction": direction, "limit": self.limit, "cursor": encode_cursor(*at)}
                text = urlencode({**query, "attribute": attributes}, doseq=True)
                links.append(f'<{path}?{text}>; rel="{direction}"')
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

    async def answer(
        self,
        call: KnownCall,
        table: Pages[RowT],
        sensor: int,
        entries: Callable[[Sequence[RowT]], Sequence[Any]],
        *,
        select: Selection[RowT] | None = None,
        attributes: Sequence[str] = (),
    ) -> Answer:
        """Return the page, oldest first, with its links; its rows become these entries."""
        rows = await table.page(
            sensor,
            key=self.key,
            cursor=self.cursor,
            direction=self.direction,
            limit=self.limit,
            select=select,
            hold=call.held.hold,
        )
        headers = page_headers(self.links(call.path, rows, attributes), rows)
        return Answer(200, await encoded(rows, entries, rows.size), headers)


def page_headers(links: str | None, page: Page[Any]) -> list[tuple[bytes, bytes]]:
    """Return what leads on from a page, and whether it ends between two rows of one time."""
    headers = [(b"link", links.encode("latin-1"))] if links else []
    return [*headers, TRUNCATED] if page.truncated else headers


def next_to(at: Position, step: int) -> Position:
    """Return the position right after (1) or before (-1) another; of the last the same."""
    timestamp, number = at
    if LEAST <= number + step <= GREATEST:
        return timestamp, number + step
    if not LEAST <= timestamp + step <= GREATEST:
        return at
    return timestamp + step, LEAST if step > 0 else GREATEST
