"""Configurations: the revisions of a sensor's desired state."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final, Literal, NamedTuple

import msgspec

from heliograph.errors import RowError
from heliograph.model.audit import SYSTEM, Actor, AuditAction, AuditedChange
from heliograph.model.configuration import Assigned, Revision, Target
from heliograph.model.listeners import Listeners
from heliograph.model.sensor import Configuration, Sensor
from heliograph.model.time import now
from heliograph.store.audit import audited_change, enter
from heliograph.store.engine import Engine, Row, Subject, Transaction, json_text, narrowed
from heliograph.store.pages import (
    ANY_SIZE,
    LARGEST_PAGE,
    Hold,
    Page,
    hold_any,
    page_chunks,
    reserving,
    text_size,
)

LEAST_REVISION = -1
GREATEST_REVISION = (1 << 63) - 1
# What a revision takes on a page beside its configuration, with the longest name of an author.
_ENTRY_BYTES: Final = 1_024


# Returns each sensor's new configuration, as JSON text in the order of the sensors.
Configure = Callable[[Sequence[Target]], Sequence[str]]


def _revision(row: Row) -> Revision:
    revision, text, created_at, author, published, said, received, success, current, _ = row
    return Revision(
        revision=revision,
        configuration=msgspec.Raw(text),
        created_at=created_at,
        author=author,
        publication_timestamp=published,
        acknowledgment_timestamp=said,
        receipt_timestamp=received,
        # SQLite knows no booleans.
        success=None if success is None else bool(success),
        is_current=bool(current),
    )


def _configuration(revision: int, text: str, created_at: int) -> Configuration:
    return Configuration(revision, msgspec.Raw(text), created_at)


async def add_configuration(
    transaction: Transaction, sensor: int, configuration: str, author: str | None
) -> int:
    """Add JSON text as the sensor's next revision and return its number.

    Raises:
        RowError: there is no such sensor, or it is deleted.
    """
    # Whoever holds the sensor's row is the only one to count its revisions.
    found = await transaction.fetch("sensor_locked", number=sensor)
    if not found or Sensor(*found[0]).deleted_at is not None:
        raise RowError(f"no sensor has the number {sensor}")
    rows = await transaction.fetch(
        "configuration_add",
        sensor=sensor,
        configuration=configuration,
        created_at=now(),
        author=author,
    )
    [(revision,)] = rows
    return int(revision)


def configured(sensor: Sensor, revision: int) -> AuditedChange:
    """Return what to enter of a new revision: its number, never what it says."""
    return audited_change(AuditAction.SENSOR_CONFIGURE, sensor, {"revision": {"new": revision}})


def _given(network: str, assigned: Assigned) -> AuditedChange:
    return AuditedChange(
        AuditAction.SENSOR_CONFIGURE,
        assigned.sensor_identifier,
        assigned.device_id,
        network,
        {"revision": {"new": assigned.revision}},
    )


class RetainedOfSensor(NamedTuple):
    """What a sensor's topics hold: its status, and its newest revision, of so many characters."""

    number: int
    identifier: str
    device_id: str | None
    network_identifier: str
    status: str | None
    revision: int | None
    size: int | None


class TooLargeError(Exception):
    """The current configurations of the sensors are too much to be changed together."""


class Configurations(Subject):
    """Revisions count from 0 for each sensor, without gaps.

    `revised` tells, after a commit that holds new ones, the (sensor, revision) of each.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.revised: Listeners[[Sequence[tuple[int, int]]]] = Listeners()

    async def add(
        self,
        sensor: int,
        configuration: str,
        *,
        author: str | None = None,
        actor: Actor = SYSTEM,
    ) -> int:
        """Store JSON text as the sensor's next revision and return its number.

        Raises:
            RowError: there is no such sensor.
        """

        async def work(transaction: Transaction) -> int:
            revision = await add_configuration(transaction, sensor, configuration, author)
            rows = await transaction.fetch("sensor_by_number", number=sensor)
            await enter(transaction, actor, [configured(Sensor(*rows[0]), revision)])
            return revision

        revision = await self._engine.change(work)
        self.revised([(sensor, revision)])
        return revision

    async def add_to_each(
        self,
        network: str,
        numbers: Sequence[int],
        configure: Configure,
        *,
        author: str | None,
        actor: Actor = SYSTEM,
        largest: int = LARGEST_PAGE,
    ) -> list[Assigned]:
        """Give each of the sensors that are still in the network its next revision, or none.

        `configure` is called in a thread while nobody else can add to these sensors; what it
        raises, this raises, and nothing is added. It is given their current configurations, of
        up to `largest` characters together; 0: without them.

        Raises:
            TooLargeError: they come to more.
        """
        wanted = json_text(list(numbers))
        async with self._engine.transaction() as transaction:
            await transaction.fetch("configuration_targets_locked", network=network, numbers=wanted)
            targets = await _targets(transaction.fetch, network, wanted, largest)
            assigned = await asyncio.to_thread(_assign, targets, configure)
            rows = [
                (target.number, each.revision, bytes(each.configuration).decode())
                for target, each in zip(targets, assigned, strict=True)
            ]
            await transaction.fetch(
                "configurations_add",
                rows=json_text(rows),
                created_at=now(),
                author=author,
            )
            given = [_given(network, each) for each in assigned]
            await enter(transaction, actor, given)
        self.revised(
            [(target.number, new.revision) for target, new in zip(targets, assigned, strict=True)]
        )
        return assigned

    async def try_on_each(
        self,
        network: str,
        numbers: Sequence[int],
        configure: Configure,
        *,
        largest: int = LARGEST_PAGE,
    ) -> list[Assigned]:
        """Return what `add_to_each` would do now, and do nothing."""
        wanted = json_text(list(numbers))
        targets = await _targets(self._engine.fetch, network, wanted, largest)
        return await asyncio.to_thread(_assign, targets, configure)

    async def of_network(self, network: str, limit: int) -> list[int]:
        """Return the numbers of a network's active sensors, in the order of their creation."""
        query = "configuration_targets_of_network"
        return await self._all(int, query, network=network, limit=limit)

    async def current(self, sensor: int) -> Configuration | None:
        """Return the newest revision."""
        return await self._one(_configuration, "configuration_current", sensor=sensor)

    async def retained(
        self, networks: Sequence[str] | None, after: int, limit: int
    ) -> list[RetainedOfSensor]:
        """Return what is retained of the networks' sensors with numbers above `after`, by number.

        `networks` None: of all.
        """
        which = {"networks": narrowed(networks), "after": after, "limit": limit}
        return await self._all(RetainedOfSensor, "configurations_retained", **which)

    async def page(
        self,
        sensor: int,
        *,
        revision: int | None,
        direction: Literal["next", "previous"] | None,
        limit: int,
        hold: Hold = hold_any,
    ) -> Page[Revision]:
        """Return the page next to a revision, exclusive; without one the newest or oldest.

        Pages are ascending, and end early before they exceed `LARGEST_PAGE`.
        """
        forward = direction == "next" if revision is None else direction != "previous"
        if revision is None:
            revision = LEAST_REVISION if forward else GREATEST_REVISION
        query = "configurations_after" if forward else "configurations_before"

        async def fetch(at: int, most: int, longest: int) -> Sequence[Row]:
            return await self._engine.fetch(
                query, sensor=sensor, revision=at, limit=most, longest=longest
            )

        page: Page[Revision] = Page()
        reserve = reserving(page, hold)
        chunks = page_chunks(fetch, revision, lambda row: row[0], limit, reserve=reserve)
        async with aclosing(chunks):
            async for rows in chunks:
                for row in rows:
                    size = page.size + text_size(row[1]) + _ENTRY_BYTES
                    if page and size > LARGEST_PAGE:
                        page.more = True
                        break
                    page.append(_revision(row))
                    page.size = size
                hold(page.size)
                if page.more:
                    break
        page.more = page.more or len(page) >= limit
        if not forward:
            page.reverse()
        return page


async def _targets(
    fetch: Callable[..., Awaitable[Sequence[Row]]], network: str, wanted: str, largest: int
) -> list[Target]:
    query = functools.partial(fetch, "configuration_targets", network=network, numbers=wanted)
    rows = await query(longest=-1)
    if largest:
        if sum(row[5] or 0 for row in rows) > largest:
            raise TooLargeError
        rows = await query(longest=ANY_SIZE)
    return [
        Target(
            number,
            identifier,
            device_id,
            revision,
            None if configuration is None else msgspec.Raw(configuration),
        )
        for number, identifier, device_id, revision, configuration, _ in rows
    ]


def _assign(targets: Sequence[Target], configure: Configure) -> list[Assigned]:
    return [
        Assigned(
            target.identifier,
            target.device_id,
            0 if target.revision is None else target.revision + 1,
            msgspec.Raw(text),
        )
        for target, text in zip(targets, configure(targets), strict=True)
    ]
