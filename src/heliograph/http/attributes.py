"""Attributes that a request names: one that its sensor has never had is not found."""

from collections.abc import Sequence

from heliograph.access.registry import KnownSensor
from heliograph.errors import ErrorCode, HeliographError
from heliograph.ingest.attributes import LONGEST_NAME
from heliograph.ingest.strict_json import quoted
from heliograph.model.attributes import escape, keys_of
from heliograph.model.records import MAXIMUM_ATTRIBUTES_OF_SENSOR
from heliograph.nearest import nearest
from heliograph.store import Store

MOST_NAMED = 5


async def check_attributes(store: Store, sensor: KnownSensor, names: Sequence[str]) -> None:
    """Check that the sensor has had each of the attributes at some time.

    Of one with as many attributes as are known of a sensor there may be more.

    Raises:
        HeliographError: ATTRIBUTE_NOT_FOUND, it has not; the detail has the nearest names.
    """
    unknown = _unknown(names, sensor.attributes)
    if not unknown:
        return
    # Another instance may have stored it a moment ago.
    had = (await store.sensors.attributes([sensor.number])).get(sensor.number, set())
    had |= sensor.attributes
    if len(had) >= MAXIMUM_ATTRIBUTES_OF_SENSOR:
        return
    if unknown := _unknown(unknown, had):
        named = ", ".join(quoted(name) + _meant(name, had) for name in unknown[:MOST_NAMED])
        if "did you mean" not in named and 0 < len(had) <= MOST_NAMED:
            named += f" (there are {', '.join(sorted(had))})"
        raise HeliographError(ErrorCode.ATTRIBUTE_NOT_FOUND, f"Attribute {named} not found")


def _unknown(names: Sequence[str], had: set[str]) -> list[str]:
    return [
        name
        for name in dict.fromkeys(names)
        if name not in had
        # The same, with an escape that is needless; and what is too long is known of no sensor.
        and ".".join(map(escape, keys_of(name))) not in had
        and len(name.encode("utf-8", "surrogatepass")) <= LONGEST_NAME
    ]


def _meant(name: str, had: set[str]) -> str:
    within = sorted(each for each in had if each.startswith(name + "."))
    found = [f"`{each}`" for each in (within or nearest(name, had))[:MOST_NAMED]]
    return f" (did you mean {' or '.join(found)}?)" if found else ""
