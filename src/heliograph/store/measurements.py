"""Measurements, and the newest value of each attribute."""

from collections.abc import Sequence
from typing import Any

import msgspec

from heliograph.model.records import Attribute, Measurement
from heliograph.model.time import now
from heliograph.store.attributes import MISSING, WHOLE, keys_of, member_text, value_at
from heliograph.store.engine import Engine, Row
from heliograph.store.pages import Cursor, Page, Pages, Selection

# Rows looked through, backwards from the newest, for attributes that it doesn't carry; what
# is silent for longer is searched for by name.
LOOKED_THROUGH = (64, 512, 4_096, 5_328)
# Candidates fetched at a time when searching by name; nearly always the first is the one.
CANDIDATES = 16

_decode = msgspec.json.decode
_encode = msgspec.json.Encoder().encode
_Raw = msgspec.Raw


def _measurements(rows: Sequence[Row]) -> list[Measurement]:
    return [
        Measurement(row_id, timestamp, fingerprint, receipt, revision, _Raw(value))
        for row_id, timestamp, fingerprint, receipt, revision, value in rows
    ]


def _cursor(row: Measurement) -> Cursor:
    return row.timestamp, row.fingerprint


def having(names: Sequence[str]) -> Selection[Measurement]:
    """Return what takes the measurements that have one of the attributes, and of each only those.

    Objects keep their shape. A value that is not an object has the attribute `value`.
    """
    wanted = [(keys, member_text(keys).encode()) for keys in map(keys_of, dict.fromkeys(names))]
    whole = any(keys == WHOLE for keys, _ in wanted)

    def select(row: Measurement) -> Measurement | None:
        text = bytes(row.value)
        if text[:1] != b"{":
            return row if whole else None
        likely = [keys for keys, member in wanted if member in text]
        if not likely:
            return None
        document = _decode(text)
        reduced: dict[str, Any] = {}
        for keys in likely:
            value = value_at(document, keys)
            if value is not MISSING:
                node = reduced
                for key in keys[:-1]:
                    node = node.setdefault(key, {})
                node[keys[-1]] = value
        return msgspec.structs.replace(row, value=_Raw(_encode(reduced))) if reduced else None

    return select


class Measurements(Pages[Measurement]):
    """What sensors measured."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "measurements", _measurements)

    async def newest(self, sensor: int) -> Measurement | None:
        """Return the newest by timestamp, of several at one time the greatest fingerprint."""
        rows = await self._engine.fetch("measurements_newest", sensors=f"[{sensor}]", now=now())
        return _measurements([rows[0][2:]])[0] if rows else None

    async def history(
        self,
        sensor: int,
        *,
        start: int,
        end: int,
        limit: int,
        cursor: Cursor | None = None,
        newer: bool = False,
        select: Selection[Measurement] | None = None,
    ) -> Page[Measurement]:
        """Return the newest first, `start` inclusive, `end` exclusive, from the cursor on."""
        page = await self.between(
            sensor, start=start, end=end, cursor=cursor, forward=newer, limit=limit, select=select
        )
        if newer:
            page.reverse()
        return page

    async def named(self, sensor: int, keys: Sequence[Cursor]) -> list[Measurement]:
        """Return those with these keys, oldest first; there may be fewer by now."""
        if not keys:
            return []
        text = _encode(keys).decode()
        return _measurements(
            await self._engine.fetch("measurements_named", sensor=sensor, keys=text)
        )

    async def latest(self, sensor: int) -> list[Attribute]:
        """Return the newest value of each attribute that the sensor has ever measured, by name.

        Usually the newest row carries them all, and one query does it.
        """
        return (await self.latest_of([sensor])).get(sensor, [])

    async def latest_of(self, sensors: Sequence[int]) -> dict[int, list[Attribute]]:
        """Return the same for each of the sensors that has measured anything."""
        wanted = _encode(sensors).decode()
        rows = await self._engine.fetch("measurements_newest", sensors=wanted, now=now())
        found: dict[int, list[Attribute]] = {}
        for sensor, names, *row in rows:
            newest = _measurements([row])[0]
            search = _Search(_decode(names) if names else [])
            search.look(newest)
            if search.missing:
                await self._look_further(sensor, search, newest)
            found[sensor] = sorted(search.found, key=lambda attribute: attribute.name)
        return found

    async def _look_further(self, sensor: int, search: "_Search", newest: Measurement) -> None:
        """Search for what the newest row lacks."""
        cursor = _cursor(newest)
        for limit in LOOKED_THROUGH:
            if not search.missing:
                break
            page = await self.before(sensor, cursor, limit=limit)
            for row in page:
                search.look_closer(row)
            if len(page) < limit:
                search.missing.clear()
            else:
                cursor = _cursor(page[-1])
        for keys in list(search.missing.values()):
            found = await self._newest_with(sensor, keys, cursor)
            if found is not None:
                search.look(found)

    async def _newest_with(
        self, sensor: int, keys: tuple[str, ...], cursor: Cursor
    ) -> Measurement | None:
        candidates = [await self._newest_containing(sensor, keys, cursor)]
        if keys == WHOLE:
            rows = await self._engine.fetch(
                "measurements_without_members",
                sensor=sensor,
                timestamp=cursor[0],
                fingerprint=cursor[1],
                limit=1,
            )
            candidates += _measurements(rows)
        return max((row for row in candidates if row), key=_cursor, default=None)

    async def _newest_containing(
        self, sensor: int, keys: tuple[str, ...], cursor: Cursor
    ) -> Measurement | None:
        limit = CANDIDATES
        while True:
            rows = _measurements(
                await self._engine.fetch(
                    "measurements_containing",
                    sensor=sensor,
                    timestamp=cursor[0],
                    fingerprint=cursor[1],
                    text=member_text(keys),
                    limit=limit,
                )
            )
            for row in rows:
                if value_at(_decode(row.value), keys) is not MISSING:
                    return row
            if len(rows) < limit:
                return None
            cursor = _cursor(rows[-1])
            limit = min(limit * 4, LOOKED_THROUGH[-1])


class _Search:
    """Which attributes are still looked for, and what was found of the others."""

    def __init__(self, names: list[str]) -> None:
        self.missing = {name: keys_of(name) for name in names}
        self.found: list[Attribute] = []
        self._texts: dict[str, bytes] = {}

    def look(self, row: Measurement) -> None:
        """Take from the row what is still missing; rows come newest first."""
        document = _decode(row.value)
        missing: dict[str, tuple[str, ...]] = {}
        for name, keys in self.missing.items():
            value = value_at(document, keys)
            if value is MISSING:
                missing[name] = keys
            else:
                self.found.append(Attribute(name, row.timestamp, value, row.fingerprint))
        self.missing = missing

    def look_closer(self, row: Measurement) -> None:
        """Do the same, decoding only what may hold something missing."""
        if not self._texts:
            self._texts = {name: member_text(at).encode() for name, at in self.missing.items()}
        text = bytes(row.value)
        if any(
            self._texts[name] in text or (keys == WHOLE and text[:1] != b"{")
            for name, keys in self.missing.items()
        ):
            self.look(row)
