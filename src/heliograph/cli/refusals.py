"""What a server says when it refuses a request, as one line for a terminal."""

from typing import Any

import httpx


def refusal(response: httpx.Response) -> str:
    """Return the answer's detail; several problems are joined, each after where it is.

    The status alone, as HTTP calls it, where the answer is not the server's own.
    """
    try:
        return _told(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase


def _told(detail: Any) -> str:
    if isinstance(detail, str):
        return detail
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in detail)
