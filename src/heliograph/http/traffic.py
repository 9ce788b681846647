"""How many requests were answered, how soon, and how many of them in vain."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from heliograph.errors import ErrorCode
from heliograph.http.paths import PREFIX
from heliograph.model.histogram import Durations

# Takes the scope, the route, the status, and how many seconds it took.
Traced: TypeAlias = Callable[[Mapping[str, Any], str, int, float], None]
# It answers 503 to say how the server does.
_READINESS = f"{PREFIX}/readyz"
_SERVER_ERROR = 5


class Traffic:
    """How many requests have been answered."""

    def __init__(self) -> None:
        # By the route's path, with its parameters' names, and the class of the status: how long it
        # took until an answer began.
        self.requests: dict[tuple[str, int], Durations] = defaultdict(Durations)
        # Before any route, by the code of the answer.
        self.refused_requests: dict[ErrorCode, int] = {}
        # Told of each answer that begins. None: nobody asks.
        self.traced: Traced | None = None

    def refuse(self, code: ErrorCode) -> None:
        """Count a request that was refused before any route."""
        self.refused_requests[code] = self.refused_requests.get(code, 0) + 1

    def failures(self) -> tuple[int, int]:
        """Return how many requests were answered, and how many of them with a status of 5xx."""
        counts = [
            (status, taken.count)
            for (template, status), taken in self.requests.items()
            if template != _READINESS
        ]
        failed = sum(count for status, count in counts if status == _SERVER_ERROR)
        return sum(count for _, count in counts), failed
