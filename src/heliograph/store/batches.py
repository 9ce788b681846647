"""What both engines do to a batch before they write it."""

from collections.abc import Iterable

from heliograph.model.records import StatusRow


def newest_statuses(rows: Iterable[StatusRow]) -> list[StatusRow]:
    """Return each sensor's newest status; of those at one time, the last."""
    newest: dict[int, StatusRow] = {}
    for row in rows:
        earlier = newest.get(row[0])
        if earlier is None or earlier[1] <= row[1]:
            newest[row[0]] = row
    return list(newest.values())
