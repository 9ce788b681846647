"""Who opens a stream or a socket, what they may watch, and whether they still may."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import structlog
from starlette.types import Receive, Scope

from heliograph.access.policy import Action, credential_of, is_current, may, networks_of
from heliograph.access.registry import Registry
from heliograph.errors import ErrorCode, HeliographError, shutting_down
from heliograph.http.access import Rights, bearer, client_address
from heliograph.http.direct import cut_off
from heliograph.http.services import Services
from heliograph.line_rate import LineRate
from heliograph.live.streams import Selection, Streams
from heliograph.live.viewer import Viewer
from heliograph.model.credentials import hash_key
from heliograph.model.principal import Principal
from heliograph.model.time import now
from heliograph.store.accounts import SESSION, TICKET

log = structlog.get_logger()
_of_opened, _of_ended = LineRate(), LineRate()

LONGEST_QUERY = 16 << 10
MAXIMUM_SENSORS = 100
RETRY_SECONDS = 10


@dataclasses.dataclass
class Watch:
    """What a stream shows its caller, as far as they may see it at the moment.

    It shows a network, or sensors; with `of_devices` what shared keys may read of these.
    """

    registry: Registry
    principal: Principal
    network: str | None = None
    sensors: frozenset[int] | None = None
    kinds: frozenset[str] | None = None
    as_messages: bool = False
    of_devices: bool = False

    def __post_init__(self) -> None:
        """Note the credential as it is now."""
        self._grants = self.registry.grants
        self._credential = credential_of(self.principal, self._grants)

    def selection(self) -> Selection:
        """Return what is to be sent now."""
        networks, own = None, self.principal.sensor
        action = Action.READ_READINGS if self.of_devices else Action.READ
        if self.network is not None:
            networks, own = frozenset((self.network,)), None
        elif (seen := networks_of(self.principal, action, self._grants)) is not None:
            networks = frozenset(seen)
        is_all = self.network is None and self.sensors is None and not self.as_messages
        of_server = is_all and may(self.principal, Action.ADMINISTER, None, self._grants)
        return Selection(networks, self.sensors, self.kinds, self.as_messages, own, of_server)

    def is_allowed(self) -> bool:
        """Return whether the credential still holds, and allows this."""
        principal, grants = self.principal, self._grants
        if principal.has_expired(now()) or not is_current(principal, self._credential, grants):
            return False
        return self.network is None or may(principal, Action.VIEW, self.network, grants)

    def check(self, streams: Streams, viewer: Viewer) -> Callable[[], bool]:
        """Return a check whether the stream may go on; it shows what has become visible."""

        def allowed() -> bool:
            if not self.is_allowed():
                return False
            watched, wanted = viewer.selection, self.selection()
            if isinstance(watched, Selection) and watched != wanted:
                if not wanted.includes(watched):
                    viewer.discard()
                streams.watch(viewer, wanted)
            return True

        return allowed


class Watchers:
    """Decides who may open a stream."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._access = services.access

    async def caller(self, scope: Scope) -> Principal:
        """Return who opens a stream, by `?ticket=` or as on any other route; counted as a read.

        The end of their session is noticed from now on.

        Raises:
            HeliographError: as `Access.caller`; SHUTTING_DOWN.
        """
        if self._services.streams.closing:
            raise shutting_down()
        registry, authenticator = self._services.registry, self._services.authenticator
        ticket = parameters(scope).get("ticket")
        made_in = await self._spend(ticket[-1], client_address(scope)) if ticket else None
        while True:
            generation = registry.generation
            if made_in is None:
                principal = await self._access.caller(scope)
            # With the session ends what its ticket opened.
            elif (held := await authenticator.session_of(made_in, SESSION, now())) is not None:
                principal = held
            else:
                raise _invalid_token()
            if principal.session is not None and principal.account is not None:
                registry.hold_session(principal.session, principal.account)
                if generation != registry.generation:
                    continue  # it may have ended meanwhile
            self._access.limits.read.take(bearer(principal, scope), scope)
            return principal

    def enter(self, viewer: Viewer, principal: Principal, scope: Scope) -> None:
        """Count the stream among its principal's.

        Raises:
            HeliographError: TOO_MANY_STREAMS.
        """
        name = bearer(principal, scope)
        if not self._services.streams.has_room(name):
            raise HeliographError(
                ErrorCode.TOO_MANY_STREAMS, "Too many open streams", retry_after=RETRY_SECONDS
            )
        self._services.streams.enter(viewer, name)
        if (more := _of_opened.due()) is not None:
            log.info("stream opened", name=principal.name, path=scope["path"], **more)

    @asynccontextmanager
    async def viewer(self, scope: Scope, receive: Receive) -> AsyncIterator[Viewer]:
        """Give a viewer, and forget it in the end; one that takes nothing is cut off."""
        viewer, began = Viewer(), time.monotonic()
        try:
            yield viewer
        except asyncio.CancelledError:
            if viewer.closed is None:
                raise
            await cut_off(scope, receive)
        finally:
            was_open = self._services.streams.leave(viewer)
            if was_open and (more := _of_ended.due()) is not None:
                seconds, reason = round(time.monotonic() - began, 3), viewer.closed
                log.info("stream ended", path=scope["path"], reason=reason, seconds=seconds, **more)

    async def watch(
        self,
        principal: Principal,
        sensors: Sequence[str] = (),
        kinds: frozenset[str] | None = None,
        network: str | None = None,
        *,
        as_messages: bool = False,
    ) -> Watch:
        """Return all that the caller may see, or of it a network, or these sensors.

        Raises:
            HeliographError: NETWORK_NOT_FOUND, FORBIDDEN; SENSOR_NOT_FOUND, one is not the caller's
                to see, or not of the network.
        """
        registry, own = self._services.registry, principal.sensor
        rights = Rights(principal, registry)
        if network is not None:
            network = (await rights.network(network)).identifier
        numbers = await _numbers(rights, sensors, network)
        if network is None and own is None:
            await rights.visible()
        elif network is None and own is not None and numbers is None:
            numbers = None if registry.grants.everybody else frozenset((own,))
        return Watch(registry, principal, network, numbers, kinds, as_messages)

    async def device(self, principal: Principal, identifier: str, kinds: frozenset[str]) -> Watch:
        """Return what a device measures, as messages; more may be added.

        Raises:
            HeliographError: DEVICE_NOT_FOUND, FORBIDDEN.
        """
        registry = self._services.registry
        sensors = frozenset(((await Rights(principal, registry).device(identifier)).number,))
        return Watch(registry, principal, None, sensors, kinds, as_messages=True, of_devices=True)

    async def _spend(self, ticket: str, address: str) -> bytes:
        """Use the ticket up; return the hash of the session that it was made in.

        URLs are written down in many places: whoever finds one there comes too late.
        """
        secret = ticket.encode("utf-8", "surrogateescape")
        hashed, made_in = hash_key(secret), _made_in(ticket)
        accounts = self._services.store.accounts
        if not made_in or not await accounts.spend_session(hashed, TICKET, now()):
            await self._services.limiter.wrong_key(address, secret)
            raise _invalid_token()
        return made_in


@asynccontextmanager
async def listening(
    viewer: Viewer, client: Coroutine[None, None, None], name: str
) -> AsyncIterator[None]:
    """Let this task write to the viewer, which is closed once its client has gone."""
    viewer.task = asyncio.current_task()
    task = asyncio.create_task(client, name=name)
    task.add_done_callback(lambda _: viewer.close("disconnected"))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _invalid_token() -> HeliographError:
    return HeliographError(ErrorCode.INVALID_TOKEN, "Invalid token")


def _made_in(ticket: str) -> bytes:
    """Return the hash of the session that a ticket was made in, which is a part of it.

    Nobody can change it: what is stored of a ticket is the hash of the whole.
    """
    try:
        return bytes.fromhex(ticket.partition(".")[2])
    except ValueError:
        return b""


def parameters(scope: Scope) -> dict[str, list[str]]:
    """Return the parameters of the query.

    Raises:
        HeliographError: VALIDATION_FAILED, it is too long.
    """
    query = scope.get("query_string", b"")
    if len(query) > LONGEST_QUERY:
        raise HeliographError(ErrorCode.VALIDATION_FAILED, "The query is too long")
    return parse_qs(query.decode("utf-8", "replace"))


async def _numbers(
    rights: Rights, sensors: Sequence[str], network: str | None = None
) -> frozenset[int] | None:
    if not sensors:
        return None
    if len(sensors) > MAXIMUM_SENSORS:
        detail = f"A stream may name {MAXIMUM_SENSORS} sensors at most"
        raise HeliographError(ErrorCode.VALIDATION_FAILED, detail)
    found = [await rights.readable(name) for name in sensors]
    if network is not None and any(s.network_identifier != network for s in found):
        raise HeliographError(ErrorCode.SENSOR_NOT_FOUND, "Sensor not found")
    return frozenset(sensor.number for sensor in found)
