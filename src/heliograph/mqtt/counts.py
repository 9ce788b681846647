"""What the MQTT endpoint refused, dropped or withheld since its start, for the metrics."""

from collections import Counter

import msgspec


class Counts(msgspec.Struct):
    """Counts that only grow.

    `refusals` are connections that were ended for a fault of the client's, and `refused_filters`
    subscriptions that were not granted, by the name of the reason. `dropped` are messages over
    the bounds of what waits for a subscriber, `too_large` those over what a subscriber takes in
    one packet, `withheld` those that a client was owed and may not see any more,
    `withheld_wills` last wills of those who may not send any more. `turns` is how often a
    connection had sent so many packets that others came before its next ones, `held_back` how
    often a principal had had its share while others sent as much as there is room for.
    """

    refusals: Counter[str] = msgspec.field(default_factory=Counter)
    refused_filters: Counter[str] = msgspec.field(default_factory=Counter)
    dropped: int = 0
    too_large: int = 0
    withheld: int = 0
    withheld_wills: int = 0
    turns: int = 0
    held_back: int = 0
