"""Viewers of one stream: until each has so many events, or without any until they are told to go.

With `events` they are connected before the clock starts; without, they connect then.
"""

import json
import sys
from typing import Any

from bench.event_streams import Crowd
from bench.limits import raise_open_files
from bench.starting_line import report, wait_for_go


def crowd(specification: dict[str, Any]) -> Crowd:
    """Return the open streams."""
    members = (specification[name] for name in ("port", "path", "key", "viewers"))
    return Crowd(*members)


def main() -> None:
    specification = json.loads(sys.argv[1])
    raise_open_files(specification["viewers"] + 200)
    if events := specification["events"]:
        viewers = crowd(specification)
        wait_for_go()
        seconds = viewers.read_until(events)
        report(seconds=seconds, events_a_write=viewers.events_a_write)
        return
    wait_for_go()
    viewers = crowd(specification)
    report(connections=specification["viewers"])
    sys.stdin.readline()
    viewers.close()


if __name__ == "__main__":
    main()
