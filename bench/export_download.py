"""Downloads an export, again if that was quick, counts its lines, and keeps nothing of it."""

import http.client
import json
import sys
import time
from typing import Any

from bench.starting_line import LoadError, report, wait_for_go

READ_SIZE = 1 << 18
PATIENCE = 60.0


def download(port: int, path: str, headers: dict[str, str]) -> tuple[int, int]:
    """Return the lines and the bytes of a whole answer.

    Raises:
        LoadError: it is another, or ends early.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise LoadError(f"{path} was answered {answer.status}: {answer.read(400)!r}")
        lines = size = 0
        # Several chunks at a time: one that is missing in the end is an error.
        while piece := answer.read(READ_SIZE):
            lines += piece.count(b"\n")
            size += len(piece)
    except (http.client.HTTPException, OSError) as error:
        raise LoadError(f"{path} ended early: {error!r}") from error
    finally:
        connection.close()
    return lines, size


def main() -> None:
    specification: dict[str, Any] = json.loads(sys.argv[1])
    wait_for_go()
    counted: list[int] = []
    total = 0
    seconds = 0.0
    started = time.perf_counter()
    while not counted or seconds < specification["shortest"]:
        lines, size = download(
            specification["port"], specification["path"], specification["headers"]
        )
        counted.append(lines)
        total += size
        seconds = time.perf_counter() - started
    report(seconds=seconds, lines=counted, bytes=total)


if __name__ == "__main__":
    main()
