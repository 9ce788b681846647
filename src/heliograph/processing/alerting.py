"""The clock's part in alerts, and the alerts about the server itself."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from heliograph.access.registry import Registry
from heliograph.errors import DutyLostError, StoreUnavailableError
from heliograph.model.alert import AlertChange, ClearedAlert, NewAlert
from heliograph.model.counting import counted
from heliograph.model.time import DAY, SECOND, now
from heliograph.processing.server_alerts import (
    CERTIFICATE_DAYS,
    CONDITIONS,
    DATABASE_AWAY,
    DATABASE_CONDITION,
    OUTBOX_WAITS,
    OUTBOX_WAITS_CLEAR,
    QUEUE_SHARE,
    QUEUE_SHARE_CLEAR,
    REJECTED,
    REJECTED_CONDITION,
    ErrorRate,
    RejectedSensors,
    ServerCondition,
    Sign,
    WatchedCondition,
    between,
)
from heliograph.store import Store
from heliograph.store.alerts import AT_ONCE, change_alerts
from heliograph.store.duties import Duty, DutyName
from heliograph.store.engine import Transaction

log = structlog.get_logger()

# How often the server looks at itself, and at its certificates.
WATCH_SECONDS = 5.0
CERTIFICATES_SECONDS = 3_600.0
MOST_KNOWN = 10_000


@dataclasses.dataclass(frozen=True)
class Signs:
    """Where it is seen how the server does; each is asked every few seconds.

    `queue` is the share of the bytes that may be in flight, `elements` how many were sent and how
    many of them rejected since the start, `answers` how many requests were answered and how many of
    them by an error of the server (5xx), `rejected` how many messages of each sensor were since it
    was asked last, `broker` why the broker is away, `disk` the percentage of the budget that is
    used, and whether that is a lot, and all of it.
    """

    queue: Callable[[], float]
    elements: Callable[[], tuple[int, int]]
    answers: Callable[[], tuple[int, int]]
    rejected: Callable[[], dict[int, int]]
    broker: Callable[[], str | None]
    disk: Callable[[], tuple[int, bool, bool]]
    clock_behind: Callable[[], bool]
    certificates: Sequence[Path] = ()


class Alerting:
    """Looks at alerts when their time has come, and watches the server.

    Reminders, rising severity and the ends of silences are due at times, and are one server's
    affair. How a server does each sees for itself. Notices of what has changed are entered in the
    same transaction.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        signs: Signs,
        *,
        interval: float,
        duty: Duty | None = None,
    ) -> None:
        """Look every `interval` seconds without being woken.

        The clock's part is done while the `duty` is this server's; without one it always is.
        """
        self._duty = duty or Duty(DutyName.ALERTS)
        self._store = store
        self._registry = registry
        self._signs = signs
        self.interval = interval
        self._work = asyncio.Event()
        self._orphans = True
        self._watches = {each.name: WatchedCondition(each) for each in CONDITIONS}
        self._rejections = ErrorRate("elements")
        self._failures = ErrorRate("requests")
        self._rejected: RejectedSensors | None = None
        self._away_since: int | None = None
        self._watch_at = 0.0
        self._certificates_at = 0.0
        self._certificate = Sign(holds=False)

    def wake(self) -> None:
        """Look now: a silence was made or has ended."""
        self._work.set()

    def registry_changed(self) -> None:
        """Clear, soon, the alerts of rules and sensors that are gone."""
        self._orphans = True
        self._work.set()

    def forget(self) -> None:
        """Know nothing of a database that was put back."""
        self._watches = {each.name: WatchedCondition(each) for each in CONDITIONS}
        self._rejected = None
        self.registry_changed()

    async def run(self) -> None:
        """Look at what is due, for ever."""
        while True:
            due_at, wait = await self.proceed(), self.interval
            if due_at is not None:
                wait = min(wait, max((due_at - now()) / SECOND, 0.0))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._work.wait()
            self._work.clear()

    async def proceed(self) -> int | None:
        """Look at what is due now; return when more is.

        None: never, for another server, or the database is away.
        """
        due_at = None
        try:
            if self._duty.held:
                try:
                    with self._duty.fenced():
                        await self._round()
                        due_at = await self._store.alerts.due_at()
                except DutyLostError as error:
                    log.debug("alerts left to another server", reason=str(error))
            await self._watch_in_time()
            await self._back()
        except StoreUnavailableError as error:
            log.debug("alerts waiting for the database", reason=str(error))
            if self._away_since is None:
                self._away_since = now()
            return None
        return due_at

    async def _round(self) -> None:
        while await self._store.alerts.proceed(now()) == AT_ONCE:
            pass
        if self._orphans:
            self._orphans = False
            try:
                while await self._store.alerts.clear_orphans(now()) == AT_ONCE:
                    pass
            except StoreUnavailableError:
                self._orphans = True
                raise

    async def _watch_in_time(self) -> None:
        moment = asyncio.get_running_loop().time()
        if moment >= self._watch_at:
            self._watch_at = moment + WATCH_SECONDS
            await self.watch(now())

    async def watch(self, moment: int) -> None:
        """Look how the server does, and raise and clear what follows."""
        raised: list[NewAlert] = []
        cleared: list[tuple[str, int]] = []
        for name, sign in (await self._look(moment)).items():
            watch = self._watches[name]
            turn = watch.advance(sign, moment)
            if turn:
                raised.append(_alert(watch.condition, sign.summary, moment))
            elif turn is False:
                cleared.append((name, 0))
        begun, ended = await self._look_at_sensors(moment)
        raised += begun
        cleared += ended
        if not raised and not cleared:
            return
        try:
            await self._enter(raised, cleared, moment)
        except StoreUnavailableError:
            self.forget()  # what could not be stored is found again
            raise

    async def _enter(
        self, raised: Sequence[NewAlert], cleared: Sequence[tuple[str, int]], moment: int
    ) -> None:
        over = [ClearedAlert(rule, sensor, moment) for rule, sensor in cleared]

        async def work(transaction: Transaction) -> list[AlertChange]:
            return await change_alerts(transaction, [*raised, *over], moment)

        self._store.alerts.changed(await self._store.engine.change(work))

    async def _back(self) -> None:
        """Tell of an absence of the database, now that it is there again."""
        since, moment = self._away_since, now()
        if since is None:
            return
        if moment - since >= DATABASE_AWAY:
            summary = f"for {(moment - since) / SECOND:,.0f} seconds"
            new = _alert(DATABASE_CONDITION, summary, since)
            await self._enter([new], [(DATABASE_CONDITION.name, 0)], moment)
        self._away_since = None

    async def _look(self, moment: int) -> dict[str, Sign]:
        signs = self._signs
        share = signs.queue()
        overdue = await self._store.actions.overdue()
        waits = 0 if overdue is None else moment - overdue
        percent, is_low, is_full = signs.disk()
        used = f"{percent} % are used"
        problem = signs.broker()
        behind = "it is behind what is stored: set it, or run `heliograph clock accept`"
        return {
            "queue": Sign(
                between(share, QUEUE_SHARE, QUEUE_SHARE_CLEAR),
                f"{share:.0%} of what may be in flight",
            ),
            "outbox": Sign(
                between(waits, OUTBOX_WAITS, OUTBOX_WAITS_CLEAR),
                f"the oldest action waits for {waits // SECOND:,} seconds",
            ),
            "errors": self._rejections.look(*signs.elements(), moment),
            "failures": self._failures.look(*signs.answers(), moment),
            "broker": Sign(problem is not None, problem or ""),
            "disk": Sign(is_low or is_full, used),
            "disk_full": Sign(is_full, f"{used}: new data is refused"),
            "certificate": await self._expiry(),
            "clock": Sign(signs.clock_behind(), behind),
        }

    async def _look_at_sensors(self, moment: int) -> tuple[list[NewAlert], list[tuple[str, int]]]:
        if self._rejected is None:
            rejected = RejectedSensors()
            known, _ = await self._store.alerts.page(
                None, state="open", rule=REJECTED, offset=0, limit=MOST_KNOWN
            )
            for alert in known:
                rejected.raised(alert.sensor, moment)
            self._rejected = rejected
        begun, ended = self._rejected.look(self._signs.rejected(), moment)
        raised = []
        for number, count in begun:
            sensor = await self._registry.find_number(number)
            if sensor is not None:
                summary = (
                    f"{counted(count, 'message')} within five minutes: see `heliograph rejected`"
                )
                network = sensor.network_identifier
                raised.append(_alert(REJECTED_CONDITION, summary, moment, number, network))
        return raised, [(REJECTED, number) for number in ended]

    async def _expiry(self) -> Sign:
        """Return whether a certificate expires soon; read once an hour."""
        moment = asyncio.get_running_loop().time()
        if moment >= self._certificates_at:
            self._certificates_at = moment + CERTIFICATES_SECONDS
            self._certificate = await asyncio.to_thread(expiring, self._signs.certificates, now())
        return self._certificate


def expiring(certificates: Sequence[Path], moment: int) -> Sign:
    """Return whether one of the certificates in these PEM files expires within 14 days."""
    if not certificates:
        return Sign(holds=False)
    from cryptography import x509  # noqa: PLC0415 - 30 ms, for those alone who have certificates

    for path in certificates:
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError) as error:
            log.warning("certificate not readable", path=str(path), reason=str(error))
            continue
        ends = certificate.not_valid_after_utc
        days = (ends.timestamp() * SECOND - moment) / DAY
        if days < CERTIFICATE_DAYS:
            when = f"expires on {ends:%Y-%m-%d}" if days > 0 else f"has expired on {ends:%Y-%m-%d}"
            return Sign(holds=True, summary=f"{path.name} {when}")
    return Sign(holds=False)


def _alert(
    condition: ServerCondition,
    summary: str,
    moment: int,
    sensor: int = 0,
    network: str | None = None,
) -> NewAlert:
    return NewAlert(
        condition.name, sensor, network, condition.title, condition.severity, summary, moment
    )
