"""How many requests were answered, and how many of them in vain."""

from heliograph.errors import ErrorCode
from heliograph.http.paths import PREFIX

# It answers 503 to say how the server does.
_READINESS = f"{PREFIX}/readyz"
_SERVER_ERROR = 5


class Traffic:
    """How many requests have been answered."""

    def __init__(self) -> None:
        # By the route's path, with its parameters' names, and the class of the status.
        self.requests: dict[tuple[str, int], int] = {}
        # Before any route, by the code of the answer.
        self.refused_requests: dict[ErrorCode, int] = {}

    def refuse(self, code: ErrorCode) -> None:
        """Count a request that was refused before any route."""
        self.refused_requests[code] = self.refused_requests.get(code, 0) + 1

    def failures(self) -> tuple[int, int]:
        """Return how many requests were answered, and how many of them with a status of 5xx."""
        counts = [
            (status, count)
            for (template, status), count in self.requests.items()
            if template != _READINESS
        ]
        failed = sum(count for status, count in counts if status == _SERVER_ERROR)
        return sum(count for _, count in counts), failed
