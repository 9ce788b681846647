"""Sessions of MQTT clients over all servers on one PostgreSQL: who has each, and what it is owed.

A session belongs to one server at a time, by its row: holder and epoch. Whatever is written of it
is written where both are still the writer's. Each call is one statement, which is a transaction by
itself: a server that is stopped leaves no row locked.
"""

from collections.abc import Sequence
from typing import TypeAlias

from heliograph.model.mqtt_sessions import Found, Row, WantedSession
from heliograph.store.engine import Subject

# What a `Row` has, as the query's parameters.
_COLUMNS = (
    *("keys", "epochs", "holders", "expiries", "ends", "clients"),
    *("subscriptions", "owed", "positions"),
)

# Key and epoch.
Key: TypeAlias = tuple[bytes, int]


class MqttSessions(Subject):
    """The sessions; `token` is the server's among the instances. For PostgreSQL."""

    async def claim(self, token: str, wanted: Sequence[WantedSession]) -> list[Found]:
        """Take those that no other living server has; the keys of a call differ."""
        keys, expiries, clients, cleans, forced = zip(*wanted, strict=True)
        rows = await self._engine.run_alone(
            "mqtt_sessions_claim",
            token=token,
            keys=keys,
            expiries=expiries,
            clients=clients,
            cleans=cleans,
            forced=forced,
        )
        return [Found(*row) for row in rows]

    async def save(self, token: str, rows: Sequence[Row], stand: str | None = None) -> set[bytes]:
        """Store rows as far as they are still this server's; return the keys of those.

        With them up to which ids what all of the server's sessions are owed is stored.
        """
        columns = zip(*rows, strict=True) if rows else ((),) * len(_COLUMNS)
        found = await self._engine.run_alone(
            "mqtt_sessions_save",
            token=token,
            stand=stand,
            **{name: list(column) for name, column in zip(_COLUMNS, columns, strict=True)},
        )
        return {key for (key,) in found}

    async def end(self, token: str, keys: Sequence[Key]) -> set[bytes]:
        """Delete what is still this server's; return the keys of that."""
        return await self._by_key("mqtt_sessions_end", token, keys)

    async def held(self, token: str, keys: Sequence[Key]) -> set[bytes]:
        """Return which are still this server's."""
        return await self._by_key("mqtt_sessions_held", token, keys)

    async def orphaned(self) -> list[str]:
        """Return the tokens of holders that do not live; an empty one: of none."""
        return [token for (token,) in await self._engine.fetch("mqtt_sessions_orphaned")]

    async def adopt(
        self, token: str, orphaned: Sequence[str], moment: int, limit: int
    ) -> list[Found]:
        """Take sessions of holders that do not live; those that were connected end from now on."""
        rows = await self._engine.run_alone(
            "mqtt_sessions_adopt",
            token=token,
            orphaned=list(orphaned),
            moment=moment,
            limit=limit,
        )
        return [Found(*row) for row in rows]

    async def forget_holders(self, token: str) -> None:
        """Forget where others stood who have no session any more."""
        await self._engine.run_alone("mqtt_holders_forget", token=token)

    async def _by_key(self, query: str, token: str, keys: Sequence[Key]) -> set[bytes]:
        found = await self._engine.run_alone(
            query,
            token=token,
            keys=[key for key, _ in keys],
            epochs=[epoch for _, epoch in keys],
        )
        return {key for (key,) in found}
