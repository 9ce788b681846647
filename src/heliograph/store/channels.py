"""Channels: where alerts are told; what they are to be told next, and how much they were lately.

Who raises or clears an alert enters a notice for each channel, in the same transaction. A moment
later `gather` takes what has come by then, and enters what is to be sent in the outbox.
"""

import secrets
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from heliograph.model.alert import Telling
from heliograph.model.audit import SYSTEM, Actor, AuditAction, AuditedChange
from heliograph.model.grouping import (
    NOTHING,
    Gathering,
    Group,
    Notice,
    Pace,
    compose,
    gather,
    next_due,
)
from heliograph.model.identifiers import is_uuid
from heliograph.model.time import SECOND
from heliograph.store.audit import Changes, enter
from heliograph.store.engine import Subject, Transaction, json_text, narrowed

# Of a network, and of the server itself.
MAXIMUM_CHANNELS = 100
# What comes within this time of another notice of a channel is told with it, and how long the first
# one waits for others at most: where thousands of sensors go at once, not all are found at once.
SETTLE = SECOND // 2
LONGEST_SETTLE = 5 * SECOND
_WAITS: Final = {"settle": SETTLE, "longest": LONGEST_SETTLE}
CHANNELS_AT_ONCE = 100
NOTICES_AT_ONCE = 10_000
# The type of the actions that send what was gathered; their body is a `Notification`.
NOTIFY: Final = "notify"


class TooManyChannelsError(Exception):
    """The network has `MAXIMUM_CHANNELS`."""


class StoredChannel(msgspec.Struct, frozen=True):
    """A channel. `definition` is JSON text of all its members, of which what is secret is hidden.

    That is in `secrets`: JSON text, encrypted; None: nothing is. A channel of no network is told
    the server's own alerts. Times are microseconds.
    """

    identifier: str
    network_identifier: str | None
    name: str
    type: str
    enabled: bool
    definition: str
    secrets: str | None
    created_at: int
    changed_at: int


class ChannelDefinition(msgspec.Struct, frozen=True):
    """What of a channel is given; see `StoredChannel`."""

    name: str
    type: str
    enabled: bool
    definition: str
    secrets: str | None


class Notification(msgspec.Struct, frozen=True):
    """What is to be sent to a channel, and the name of the network that it is about, if any."""

    channel: str
    network: str
    title: str
    text: str
    severity: str
    alerts: int


class Channels(Subject):
    """The channels of all networks, and the server's own."""

    async def find(self, identifier: str) -> StoredChannel | None:
        """Return the channel with this UUID (in any case)."""
        if not is_uuid(identifier):
            return None
        return await self._one(_channel, "channel_find", identifier=identifier.lower())

    async def called(self, network: str | None, name: str) -> StoredChannel | None:
        """Return the channel of this name; of the server, if no network is given."""
        return await self._one(_channel, "channel_called", network=network, name=name)

    async def page(
        self, *, networks: Sequence[str] | None, offset: int, limit: int
    ) -> tuple[list[StoredChannel], int]:
        """Return a page of channels, oldest first, and how many there are.

        `networks` narrows them to those of these networks; None: all, the server's own too.
        """
        which = {"networks": narrowed(networks)}
        return await self._page(_channel, "channels", which, offset=offset, limit=limit)

    async def with_secrets(self) -> list[StoredChannel]:
        """Return all channels that have secrets, oldest first."""
        return await self._all(_channel, "channels_with_secrets")

    async def create(
        self,
        *,
        identifier: str,
        network: str | None,
        channel: ChannelDefinition,
        created_at: int,
        actor: Actor = SYSTEM,
    ) -> StoredChannel | None:
        """Make a channel; None: there is no such network.

        Raises:
            AlreadyExistsError: there is one of this name, or the identifier is taken.
            TooManyChannelsError: there are as many as there may be.
        """

        async def work(transaction: Transaction) -> StoredChannel | None:
            # In the order in which whoever deletes a network locks.
            await transaction.fetch("registry_lock")
            if network is not None and not await transaction.fetch(
                "network_locked", identifier=network
            ):
                return None
            [(count,)] = await transaction.fetch("channels_of_network", network=network)
            if count >= MAXIMUM_CHANNELS:
                raise TooManyChannelsError
            rows = await transaction.fetch(
                "channel_create",
                identifier=identifier.lower(),
                network=network,
                created_at=created_at,
                **msgspec.structs.asdict(channel),
            )
            made = _channel(*rows[0])
            await enter(transaction, actor, [_entry(AuditAction.CHANNEL_CREATE, made, {})])
            return made

        return await self._make("channel_find", identifier, work)

    async def change(
        self,
        identifier: str,
        decide: Callable[[StoredChannel], ChannelDefinition],
        *,
        changed_at: int,
        actor: Actor = SYSTEM,
    ) -> StoredChannel | None:
        """Change a channel to what `decide` returns of it; None: there is no such channel.

        Nobody else changes it meanwhile. What is equal is not written.

        Raises:
            AlreadyExistsError: there is another one of this name.
            Exception: what `decide` raises; nothing is changed then.
        """

        async def work(transaction: Transaction) -> StoredChannel | None:
            rows = await transaction.fetch("channel_locked", identifier=identifier)
            if not rows:
                return None
            channel = _channel(*rows[0])
            after = decide(channel)
            changes = _differences(channel, after)
            if not changes:
                return channel
            rows = await transaction.fetch(
                "channel_change",
                identifier=identifier,
                changed_at=changed_at,
                **msgspec.structs.asdict(after),
            )
            channel = _channel(*rows[0])
            await enter(transaction, actor, [_entry(AuditAction.CHANNEL_CHANGE, channel, changes)])
            return channel

        return await self._engine.change(work)

    async def encrypt(self, channel: StoredChannel, encrypted: str) -> bool:
        """Store a channel's secrets encrypted with another key; False: they are others by now."""
        return bool(
            await self._write(
                "channel_encrypt",
                identifier=channel.identifier,
                former=channel.secrets,
                secrets=encrypted,
            )
        )

    async def delete(self, identifier: str, *, actor: Actor = SYSTEM) -> bool:
        """Delete a channel, and what it was to be told; return whether there was one."""

        async def work(transaction: Transaction) -> bool:
            rows = await transaction.fetch("channel_delete", identifier=identifier)
            if rows:
                gone = _entry(AuditAction.CHANNEL_DELETE, _channel(*rows[0]), {})
                await enter(transaction, actor, [gone])
            return bool(rows)

        return await self._engine.change(work)

    async def due_at(self, now: int) -> int | None:
        """Return when there is something to gather or to send next; None: nothing is told."""
        [(due_at,)] = await self._engine.fetch("notices_due_at", now=now, **_WAITS)
        return None if due_at is None else int(due_at)

    async def hasten(self, now: int) -> None:
        """Have what is gathered looked at now: it may be due by another pace."""
        await self._write("channel_states_hasten", now=now)

    async def gather(self, now: int, pace: Pace) -> int:
        """Gather the notices that channels have, and enter what is due; return how many were."""

        async def work(transaction: Transaction) -> int:
            entered = 0
            due = await transaction.fetch("channels_due", now=now, **_WAITS, limit=CHANNELS_AT_ONCE)
            for row in due:
                entered += await _gather(transaction, _Due(*row), now, pace)
            return entered

        return await self._engine.change(work)


class ToldNotice(NamedTuple):
    """What channels of a network are told, or of the server (None).

    `channels` are their names or identifiers; None: all of them. Those not in use are not told.
    """

    network: str | None
    channels: Sequence[str] | None
    notice: Notice


async def tell(transaction: Transaction, told: Sequence[ToldNotice], now: int) -> None:
    """Have channels told, in this order, once the transaction commits."""
    rows = [(each.network, each.channels, json_text(each.notice)) for each in told]
    await transaction.fetch("notices_tell", rows=json_text(rows), now=now)


class _Due(NamedTuple):
    """A channel of which something is to be gathered or sent."""

    identifier: str
    name: str
    network: str | None
    enabled: bool
    network_name: str | None


async def _gather(transaction: Transaction, channel: _Due, now: int, pace: Pace) -> int:
    """Take a channel's notices, and enter what is due; return how many actions that is."""
    of_channel = {"channel": channel.identifier}
    rows = await transaction.fetch("notices_take", **of_channel, limit=NOTICES_AT_ONCE)
    stored = await transaction.fetch("channel_state_read", **of_channel)
    state = NOTHING
    groups: tuple[Group, ...] = ()
    if channel.enabled:
        in_order = sorted(rows, key=itemgetter(0))
        notices = [msgspec.json.decode(notice, type=Notice) for _, notice in in_order]
        if stored:
            state = msgspec.json.decode(stored[0][0], type=Gathering)
        state, groups = gather(state, notices, now, pace)
    await transaction.fetch(
        "channel_state_set",
        **of_channel,
        state=json_text(state),
        due_at=next_due(state, pace),
    )
    if not groups:
        return 0
    network = channel.network_name or ""
    digest = compose(groups, network, await _count_raised(transaction, channel))
    await transaction.fetch(
        "notify_enter",
        network=channel.network,
        # What makes it differ from what other channels are sent at this moment.
        fingerprint=secrets.randbits(63),
        body=json_text(Notification(channel.identifier, network, *digest)),
        now=now,
    )
    return 1


async def _count_raised(transaction: Transaction, channel: _Due) -> int:
    """Return how many alerts are raised that the channel is told of."""
    names = {channel.name, channel.identifier}
    count = 0
    for (text,) in await transaction.fetch("alerts_raised", network=channel.network):
        told = msgspec.json.decode(text, type=Telling).everybody
        count += told is None or not names.isdisjoint(told)
    return count


def _channel(*columns: Any) -> StoredChannel:
    channel = StoredChannel(*columns)
    return msgspec.structs.replace(channel, enabled=bool(channel.enabled))  # SQLite knows none


def _entry(action: AuditAction, channel: StoredChannel, changes: Changes) -> AuditedChange:
    network = channel.network_identifier
    return AuditedChange(action, channel.identifier, channel.name, network, changes)


def _differences(before: StoredChannel, after: ChannelDefinition) -> Changes:
    """Return the members that differ, with what may be told of them."""
    changes: Changes = {
        name: {"old": old, "new": new}
        for name in ("name", "type", "enabled")
        if (old := getattr(before, name)) != (new := getattr(after, name))
    }
    old_members, new_members = (msgspec.json.decode(each.definition) for each in (before, after))
    for name in sorted(old_members.keys() | new_members.keys()):
        if name not in changes and old_members.get(name) != new_members.get(name):
            changes[name] = {}
    if before.secrets != after.secrets:
        changes["secrets"] = {}
    return changes
