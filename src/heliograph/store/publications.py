"""What is to be published under which name, by whom, and what has been."""

from collections.abc import Sequence
from typing import NamedTuple

from heliograph.model.time import HOUR, SECOND
from heliograph.store.engine import Subject, Transaction, json_text

# How long a claim holds that its owner does not renew: so long others wait after a crash.
CLAIM_SECONDS = 10
# Nothing is put off for longer; what seems to be was so by a clock that was wrong.
_HORIZON = HOUR
# Configurations of so many bytes are read together with what says that they are wanted.
_SHORT = 2_000


class Claimed(NamedTuple):
    """A name whose topic is to be brought up to date, as of a version."""

    name: str
    version: int
    attempts: int


class Content(NamedTuple):
    """What a sensor's topics are to hold: its newest revision, of so many bytes.

    `text` is there already if it is short. The versions are those of its names in the outbox, None
    for one that is not there.
    """

    number: int
    network_identifier: str
    identifier: str
    device_id: str | None
    revision: int
    size: int
    text: str | None
    identifier_version: int | None
    device_version: int | None

    def version(self, name: str) -> int | None:
        """Return the version of a name that this is the content of."""
        return self.identifier_version if name == self.identifier else self.device_version


class Published(NamedTuple):
    """A topic that was brought up to date; `number` is None where it was cleared."""

    name: str
    version: int
    number: int | None
    revision: int | None
    timestamp: int


class Postponed(NamedTuple):
    """A topic that has to wait until `due_at`, after so many attempts."""

    name: str
    version: int
    due_at: int
    attempts: int


class Outbox(Subject):
    """The outbox of configurations: a row for each topic that is not up to date.

    Rows are made by triggers, in the transaction of whatever changes what a topic is to hold. A
    process claims rows for a time, and nobody else takes them meanwhile.
    """

    async def due(self, now: int) -> bool:
        """Return whether there is anything to claim."""
        rows = await self._engine.fetch("publications_due", now=now, horizon=now + _HORIZON)
        return bool(rows)

    async def count(self) -> int:
        """Return how many topics are not up to date."""
        [(count,)] = await self._engine.fetch("publications_count")
        return int(count)

    async def claim(self, claim: int, now: int, limit: int) -> list[Claimed]:
        """Claim names that are due, those first that have failed least and waited longest."""
        rows = await self._write(
            "publications_claim",
            now=now,
            horizon=now + _HORIZON,
            until=now + CLAIM_SECONDS * SECOND,
            claim=claim,
            limit=limit,
        )
        return [Claimed(*row) for row in rows]

    async def contents(self, names: Sequence[str]) -> list[Content]:
        """Return what the sensors are to get that go by these names and have a configuration."""
        return await self._all(
            Content, "publications_contents", names=json_text(names), short=_SHORT
        )

    async def texts(self, revisions: Sequence[tuple[int, int]]) -> dict[tuple[int, int], str]:
        """Return the configurations of (sensor, revision), as far as they exist."""
        rows = await self._engine.fetch("configuration_texts", rows=json_text(revisions))
        return {(sensor, revision): text for sensor, revision, text in rows}

    async def renew(self, claim: int, names: Sequence[str], now: int) -> None:
        """Hold names that are claimed for longer."""
        until = now + CLAIM_SECONDS * SECOND
        await self._write("publications_renew", claim=claim, names=json_text(names), until=until)

    async def release(self, claim: int) -> None:
        """Let others claim what was claimed."""
        await self._write("publications_release", claim=claim)

    async def forget_claims(self) -> None:
        """End all claims, whoever holds them: for the only process there is."""
        await self._write("publications_forget_claims")

    async def finish(self, claim: int, published: Sequence[Published]) -> None:
        """Take up-to-date topics off the list, and note when their revisions were published.

        What has changed since it was claimed stays due. So does what another process has taken
        over meanwhile: the older state may have come after the newer one.
        """
        names = [each.name for each in published]
        encoded_names = json_text(names)
        revisions = {
            (each.number, each.revision): each.timestamp
            for each in published
            if each.revision is not None
        }
        settled = json_text([(*key, timestamp) for key, timestamp in revisions.items()])
        kept = [Postponed(each.name, each.version, 0, 0) for each in published]

        async def work(transaction: Transaction) -> None:
            # Of two instances that finish one topic each of the same revision, the second sees
            # what the first has done.
            if revisions:
                await transaction.fetch("revisions_lock", rows=settled)
            await transaction.fetch("publications_lock", names=encoded_names)
            deleted = await transaction.fetch(
                "publications_delete",
                claim=claim,
                rows=json_text([(each.name, each.version) for each in published]),
            )
            left = set(names) - {name for (name,) in deleted}
            if left:
                changed = await transaction.fetch(
                    "publications_postpone",
                    claim=claim,
                    rows=json_text([each for each in kept if each.name in left]),
                )
                lost = left - {name for (name,) in changed}
                if lost:
                    marked = json_text(sorted(lost))
                    await transaction.fetch("publications_mark", names=marked)
            if revisions:
                await transaction.fetch("publications_settle", rows=settled, names=encoded_names)

        await self._engine.change(work)

    async def postpone(self, claim: int, postponed: Sequence[Postponed]) -> None:
        """Put off what could not be published; what has changed meanwhile is due at once."""
        await self._write("publications_postpone", claim=claim, rows=json_text(postponed))
