"""Entity tags: an answer that the client has already is not sent again (RFC 9110, 8.8.3)."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import Header
from starlette.types import Scope

from heliograph.http.errors import Answer

IfNoneMatch = Annotated[
    str | None, Header(description="The ETag of an answer that is known: 304 while it is the same")
]

NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "It is still the one of If-None-Match"}
}


def if_none_match(scope: Scope) -> str | None:
    """Return the header as FastAPI gives it: the first one's value."""
    found = next((value for name, value in scope["headers"] if name == b"if-none-match"), None)
    return found.decode("latin-1") if found is not None else None


def matches(given: str | None, tag: str) -> bool:
    """Return whether the header names this entity tag (RFC 9110, 13.1.2)."""
    if given is None:
        return False
    named = [each.strip().removeprefix("W/") for each in given.split(",")]
    return "*" in named or tag in named


def tagged(body: bytes, given: str | None, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """Return the body with a tag of its content: 304 without it for a client that has it."""
    tag = hashlib.blake2b(body, digest_size=12).hexdigest()
    return tagged_as(tag, lambda: body, given, headers)


def tagged_as(
    tag: str,
    body: Callable[[], bytes],
    given: str | None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> Answer:
    """Return the body that this stands for: 304, and nobody asks for it, where it is known."""
    tag = f'"{tag}"'
    headers = [(b"etag", tag.encode()), *headers]
    return Answer(304, b"", headers) if matches(given, tag) else Answer(200, body(), headers)
