"""What a connection of its own and `status/<sensor>` come to."""

import pytest

from heliograph.model.presence import presence
from heliograph.model.sensor import Sensor


@pytest.mark.parametrize(
    ("members", "connected", "since"),
    [
        ({}, None, None),
        # Its own connection alone.
        ({"connection_open": True, "connection_at": 5}, True, 5),
        ({"connection_at": 5}, False, 5),
        # What it said alone.
        ({"status": "online", "status_at": 5, "status_since": 3}, True, 3),
        ({"status": "offline", "status_at": 5, "status_since": 3}, False, 3),
        # Who is connected is, whatever was said, and whenever.
        (
            {
                "connection_open": True,
                "connection_at": 5,
                "status": "offline",
                "status_at": 9,
                "status_since": 9,
            },
            True,
            5,
        ),
        # What was said on a connection ends with it.
        ({"connection_at": 9, "status": "online", "status_at": 9, "status_since": 3}, False, 9),
        # Said again after its end it counts, since then.
        ({"connection_at": 7, "status": "online", "status_at": 9, "status_since": 3}, True, 9),
        ({"connection_at": 2, "status": "online", "status_at": 9, "status_since": 3}, True, 3),
        # A last will, before and after the end of the connection that it is of.
        ({"connection_at": 9, "status": "offline", "status_at": 8, "status_since": 8}, False, 9),
        ({"connection_at": 8, "status": "offline", "status_at": 9, "status_since": 9}, False, 9),
        # Of a will that says what was said before, the connection's end is the news.
        ({"connection_at": 8, "status": "offline", "status_at": 9, "status_since": 1}, False, 8),
        # What a broker's device said stands beyond a connection here, until it says otherwise.
        (
            {
                "connection_at": 9,
                "status": "online",
                "status_at": 4,
                "status_since": 3,
                "status_by_broker": True,
            },
            True,
            3,
        ),
        (
            {
                "connection_at": 2,
                "status": "offline",
                "status_at": 4,
                "status_since": 4,
                "status_by_broker": True,
            },
            False,
            4,
        ),
        # Out of service nothing that was said counts.
        ({"is_active": False, "status": "online", "status_at": 4, "status_since": 4}, None, None),
        (
            {
                "is_active": False,
                "connection_at": 2,
                "status": "online",
                "status_at": 4,
                "status_since": 4,
                "status_by_broker": True,
            },
            False,
            2,
        ),
    ],
)
def test_presence(members, connected, since):
    assert presence(Sensor(1, "id", "network", **members)) == (connected, since)
