"""Routes whose bodies are read strictly: no member twice, of which one would be a guess."""

import json
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from heliograph.errors import ErrorCode, HeliographError
from heliograph.ingest.json_checks import quoted


class StrictRoute(APIRoute):
    """A route of FastAPI's that refuses a JSON body with a member that it has twice."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return strict


class _StrictRequest(Request):
    async def json(self) -> Any:
        return json.loads(await self.body(), object_pairs_hook=_members)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        name = next(name for name, count in counts.items() if count > 1)
        detail = f"The body has the member {quoted(name)} twice in one object"
        raise HeliographError(ErrorCode.VALIDATION_FAILED, detail)
    return members
