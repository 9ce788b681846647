"""Pages of a network's newest values, put together from what is remembered of each sensor.

A page that was asked for lately is kept: which sensors are on it while the registry stands as it
is, and their values while nothing has changed of any sensor's. After a change only the sensors
that it touches are encoded again, and the page's tag is made of theirs.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterable, Sequence
from itertools import chain

from heliograph.access.registry import KnownSensor, Registry
from heliograph.http.answers import encode
from heliograph.ingest.latest_values import LatestValues, Text
from heliograph.store import Store

MAXIMUM_PAGES = 8
# Of all pages together; the last one asked for is kept in any case.
MAXIMUM_BYTES = 32 << 20
# Asked about in one query, at first and at most: those before tell how large they are.
SENSORS_AT_FIRST = 16
SENSORS_AT_ONCE = 256
# After so long others have a turn.
TURN_SECONDS = 0.005


class NewestPage:
    """The newest values of sensors that follow each other in a network."""

    def __init__(
        self, generation: int, sensors: Sequence[KnownSensor], places: Sequence[int], total: int
    ) -> None:
        """Make a page without values; `places` are those of its sensors in the list, and its end.

        The sensors are those of the registry's `generation`, `total` is how many the list has.
        """
        self.generation = generation
        self.sensors = sensors
        self.total = total
        self.tag = ""
        self._place_of = {sensor.number: place for place, sensor in enumerate(sensors)}
        self.heads = [_head(sensor, "},{" if at else "[{") for at, sensor in enumerate(sensors)]
        self.identity = hashlib.blake2b(b"".join(self.heads)).digest()
        self.texts: list[Text] = []
        self.changes = -1
        self.until = float("-inf")
        self.size = 0
        self._size_of_heads = sum(map(len, self.heads))
        self._places = places
        self._body: bytes | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the values of all its sensors have been read."""
        return len(self.texts) == len(self.sensors)

    @property
    def length(self) -> int:
        """How much of the list it answers for."""
        return self._places[len(self.texts)]

    def of(self, numbers: Iterable[int]) -> list[int]:
        """Return where on the page those of the sensors stand that are on it."""
        places = map(self._place_of.get, numbers)
        return [place for place in places if place is not None]

    def assume(self, texts: list[Text], changes: int) -> None:
        """Take over the sensors' values, read after `changes` was."""
        digests = hashlib.blake2b(self.identity, digest_size=12)
        digests.update(b"".join([text.digest for text in texts]))
        tag = digests.hexdigest()
        if tag != self.tag:
            self._body = None
        self.tag, self.texts, self.changes = tag, texts, changes
        self.size = sum([len(text.json) for text in texts]) + self._size_of_heads
        self.until = min((text.until for text in texts), default=float("inf"))

    def body(self) -> bytes:
        """Return the page as JSON."""
        if self._body is None:
            texts = [text.json for text in self.texts]
            pieces = chain.from_iterable(zip(self.heads, texts, strict=False))
            self._body = b"".join([*pieces, b"}]"]) if texts else b"[]"
        return self._body


class NewestPages:
    """The pages of newest values that were asked for last."""

    def __init__(self, store: Store, registry: Registry, values: LatestValues) -> None:
        self._store = store
        self._registry = registry
        self._values = values
        # The one asked for longest ago first.
        self._pages: dict[tuple[str, int, int], NewestPage] = {}

    async def page(self, network: str, offset: int, limit: int, largest: int) -> NewestPage:
        """Return a page of the network's sensors; it ends early where it exceeds `largest`.

        It says what was committed before the call, or later.
        """
        # One question instead of a list: whatever changes a sensor or a network raises the version.
        await self._registry.changed()
        name = (network, offset, limit)
        page = self._pages.get(name)
        if page is None or page.generation != self._registry.generation:
            page = await self._list(network, offset, limit)
        if page.changes != self._values.changes or page.until <= _now():
            changes = self._values.changes
            texts = await self._changed(page, network, largest)
            while texts is None and (texts := await self._read(page, network, largest)) is None:
                page = await self._list(network, offset, limit)
            # Others may have done the same meanwhile; each set of values goes with its `changes`.
            page.assume(texts, changes)
        self._keep(name, page)
        return page

    def _keep(self, name: tuple[str, int, int], page: NewestPage) -> None:
        pages = self._pages
        pages.pop(name, None)
        pages[name] = page
        # Each with the body that is put together of it.
        size = sum(2 * other.size for other in pages.values())
        while len(pages) > MAXIMUM_PAGES or (len(pages) > 1 and size > MAXIMUM_BYTES):
            size -= 2 * pages.pop(next(iter(pages))).size

    async def _list(self, network: str, offset: int, limit: int) -> NewestPage:
        registry = self._registry
        # Before the question: what changes meanwhile has the next one listed anew.
        generation = registry.generation
        numbers, total = await self._store.sensors.numbers(network, offset=offset, limit=limit)
        sensors: list[KnownSensor] = []
        places: list[int] = []
        for place, number in enumerate(numbers):
            known = registry.number(number) or await registry.find_number(number)
            # It may have been moved or erased a moment ago.
            if known is not None and known.network_identifier == network:
                sensors.append(known)
                places.append(place)
        return NewestPage(generation, sensors, [*places, len(numbers)], total)

    async def _changed(self, page: NewestPage, network: str, largest: int) -> list[Text] | None:
        """Return the values of a page that was read before; None: it has to be read as a whole."""
        numbers = self._values.changed_since(page.changes)
        if numbers is None or page.until <= _now() or not page.is_whole:
            return None
        # Of now: after the wait they may be another's, who asked before.
        texts, size = page.texts.copy(), page.size
        places = page.of(numbers)
        sensors = [page.sensors[place] for place in places]
        found = await self._values.texts(sensors)
        if _has_left(network, sensors):
            return None
        for place, text in zip(places, found, strict=True):
            size += len(text.json) - len(texts[place].json)
            texts[place] = text
        return texts if size <= largest else None

    async def _read(self, page: NewestPage, network: str, largest: int) -> list[Text] | None:
        """Return the values of its sensors, as far as they fit; None: one has left the network."""
        texts: list[Text] = []
        size, began = 0, time.monotonic()
        count = min(SENSORS_AT_FIRST, SENSORS_AT_ONCE)
        while len(texts) < len(page.sensors):
            sensors = page.sensors[len(texts) : len(texts) + count]
            found = await self._values.texts(sensors)
            if _has_left(network, sensors):
                return None
            for text in found:
                size += len(page.heads[len(texts)]) + len(text.json)
                texts.append(text)
                if size > largest:
                    return texts
            fitting = largest // 8 // (size // len(texts) + 1)
            count = min(SENSORS_AT_ONCE, max(SENSORS_AT_FIRST, fitting))
            if time.monotonic() - began > TURN_SECONDS:
                await asyncio.sleep(0)
                began = time.monotonic()
        return texts


def _has_left(network: str, sensors: Iterable[KnownSensor]) -> bool:
    return any(sensor.network_identifier != network for sensor in sensors)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _head(sensor: KnownSensor, before: str) -> bytes:
    head = encode(
        {
            "sensor_identifier": sensor.identifier,
            "device_id": sensor.device_id,
            "labels": sensor.attribute_labels,
        }
    )
    return before.encode() + head[1:-1] + b',"attributes":'
