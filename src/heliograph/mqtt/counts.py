"""What the MQTT endpoint refused, dropped or withheld since its start, for the metrics."""

from collections import Counter


class Counts:
    """Counts that only grow.

    `refusals` are connections that were ended for a fault of the client's, and `refused_filters`
    subscriptions that were not granted, by the name of the reason. `dropped` are messages over
    the bounds of what waits for a subscriber, `too_large` those over what a subscriber takes in
    one packet, `withheld` those that a client was owed and may not
    see any more, `withheld_wills` last wills of those who may not send any more. `turns` tells
    how often a connection had sent so many packets that others came before its next ones, and
    `held_back` how often a principal had had its share while others sent as much as there is room
    for.
    """

    __slots__ = (
        "dropped",
        "held_back",
        "refusals",
        "refused_filters",
        "too_large",
        "turns",
        "withheld",
        "withheld_wills",
    )

    def __init__(self) -> None:
        self.refusals: Counter[str] = Counter()
        self.refused_filters: Counter[str] = Counter()
        self.dropped = 0
        self.too_large = 0
        self.withheld = 0
        self.withheld_wills = 0
        self.turns = 0
        self.held_back = 0
