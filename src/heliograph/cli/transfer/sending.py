"""Sending elements to a running server, so that they are stored as all others are."""

import asyncio
import dataclasses
import functools
from collections.abc import (
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

import httpx

from heliograph.cli.local_server import refusal
from heliograph.errors import StartError
from heliograph.exchange.elements import Element
from heliograph.model.identifiers import is_uuid
from heliograph.model.records import Kind

BATCH = "/ingest/batch"
# What its body is called for each kind.
ARRAYS = {Kind.MEASUREMENT: "readings", Kind.LOG: "log_messages", Kind.HEARTBEAT: "heartbeats"}
# A route takes 1 MiB and 10,000 elements; of fewer at once, others wait less between them. With
# 1,000 in a body, bodies alone cost a fifth of the client's CPU time.
BODY_BYTES = 900_000
BODY_ELEMENTS = 2_000
# What naming its sensor adds to an element.
ADDRESS_BYTES = 60
# So many that the server has the next ones while it commits: it commits what has come together.
AT_ONCE = 8
TIME_OUT_SECONDS = 30.0
# About five minutes of a server that is away or busy.
MOST_ATTEMPTS = 60
LONGEST_WAIT_SECONDS = 5.0
# Of what a server may ask for by Retry-After.
LONGEST_RETRY_AFTER_SECONDS = 300
MOST_NAMES = 200_000
# More sensors than these are looked up in the server's list of all.
LOOKED_UP_SINGLY = 100
LIST_PAGE = 5_000

# A body that is refused whole for something in it.
_DIVISIBLE = frozenset((400, 413, 422))

T = TypeVar("T")
R = TypeVar("R")


class Bad(NamedTuple):
    """A line that was left out, and why."""

    number: int
    reason: str


class Sent(NamedTuple):
    """What became of elements."""

    accepted: int = 0
    duplicates: int = 0
    bad: tuple[Bad, ...] = ()


def sum_of(parts: Iterable[Sent]) -> Sent:
    """Return what became of them together."""
    accepted = duplicates = 0
    bad: list[Bad] = []
    for part in parts:
        accepted += part.accepted
        duplicates += part.duplicates
        bad += part.bad
    return Sent(accepted, duplicates, tuple(bad))


@dataclasses.dataclass(frozen=True, slots=True)
class _Body:
    """Elements of one kind: their lines, the sensors that they go to, and their texts.

    `alone` is the sensor by whose own path they go.
    """

    kind: Kind
    alone: str | None
    lines: Sequence[int]
    sensors: Sequence[str]
    texts: Sequence[bytes]

    def piece(self, start: int, end: int) -> Self:
        """Return some that follow one another."""
        which = slice(start, end)
        lines, sensors, texts = self.lines[which], self.sensors[which], self.texts[which]
        return dataclasses.replace(self, lines=lines, sensors=sensors, texts=texts)

    def only(self, which: Sequence[int]) -> Self:
        """Return some, by their indexes."""
        lines, sensors = [self.lines[at] for at in which], [self.sensors[at] for at in which]
        texts = [self.texts[at] for at in which]
        return dataclasses.replace(self, lines=lines, sensors=sensors, texts=texts)


class Sender:
    """Sends elements in bodies of one kind, of all sensors together.

    Whatever is sent again after a lost answer is a repeat for the server.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        default_sensor: str | None,
        renamed: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        """Use the client; `default_sensor` is that of elements that name none.

        What names a sensor of `renamed` goes to the one that it leads to, which is not told.
        """
        self._server = _Server(client)
        self._default = (default_sensor,) if default_sensor else ()
        self._sensors = _Sensors(self._server, renamed, say)

    async def send(self, elements: Sequence[Element], lines: Sequence[int]) -> Sent:
        """Return when everything is committed, or known to be bad.

        Raises:
            StartError: the server stays away, or does not let us in.
        """
        kinds, names, texts = zip(*elements, strict=True) if elements else ((), (), ())
        named = [each or self._default for each in names] if () in names else names
        found = await self._sensors.find(named)
        sensors = [sensor or "" for sensor in found]
        bad: list[Bad] = []
        if "" not in sensors and {*kinds} == {Kind.MEASUREMENT}:
            groups = [_Body(Kind.MEASUREMENT, None, lines, sensors, texts)]
        else:
            indexes: dict[tuple[Kind, str | None], list[int]] = {}
            for at, (kind, sensor, text) in enumerate(zip(kinds, sensors, texts, strict=True)):
                if sensor:
                    indexes.setdefault((kind, _alone(kind, sensor, text)), []).append(at)
                else:
                    bad.append(Bad(lines[at], _without_sensor(named[at])))
            groups = [
                _Body(kind, alone, lines, sensors, texts).only(which)
                for (kind, alone), which in indexes.items()
            ]
        bodies = [body for group in groups for body in _bodies(group)]
        return sum_of([Sent(bad=tuple(bad)), *await _all_of(self._post, bodies)])

    async def _post(self, body: _Body) -> Sent:
        """Return what became of elements of one kind."""
        path, array, texts = BATCH, ARRAYS[body.kind], body.texts
        if body.alone is not None:
            path = f"/sensors/{quote(body.alone, safe='')}/{array}"
        else:
            beginnings = map(_beginning, body.sensors)
            texts = [start + text[1:] for start, text in zip(beginnings, texts, strict=True)]
        content = b'{"%b":[%b]}' % (array.encode(), b",".join(texts))
        response = await self._server.request("POST", path, content)
        if response.status_code == 201:
            answer = response.json()
            bad = tuple(
                Bad(body.lines[fault["index"]], f"{fault['code']}: {fault['detail']}")
                for fault in answer["rejected"]
            )
            return Sent(answer["accepted"], answer["duplicates"], bad)
        if parts := _divided(body, response.status_code):
            return sum_of([await self._post(part) for part in parts])
        return Sent(bad=tuple(Bad(line, _reason(response)) for line in body.lines))


class _Sensors:
    """Which sensors the names in a file lead to."""

    def __init__(
        self, server: "_Server", renamed: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self._server = server
        self._renamed = renamed
        self._say = say
        self._found: dict[tuple[str, ...], str | None] = {}
        # Lines of one name may be sent again before it is found.
        self._finding = asyncio.Lock()
        # Those of the server's list by each of their names; None: it has not been read.
        self._listed: dict[str, _Sensor] | None = None

    async def find(self, wanted: Sequence[tuple[str, ...]]) -> list[str | None]:
        """Return the UUIDs of the sensors that elements with these names go to; None: of none.

        The first name leads to it, unless to one that was deleted and made again: that takes
        nothing any more, but still goes by its UUID.

        Raises:
            StartError: the server stays away, or does not let us in.
        """
        try:
            return [self._found[names] for names in wanted]
        except KeyError:
            pass  # not all of them were asked for before
        async with self._finding:
            unknown = [names for names in {*wanted} if names not in self._found]
            if len(self._found) + len(unknown) > MOST_NAMES:
                self._found, unknown = {}, [*{*wanted}]
            if len(unknown) > LOOKED_UP_SINGLY and self._listed is None:
                self._listed = await self._list()
            await _all_of(self._find, unknown)
            return [self._found[names] for names in wanted]

    async def _find(self, names: tuple[str, ...]) -> None:
        renamed = next((self._renamed[name] for name in names if name in self._renamed), None)
        inactive = found = None
        for name in names if renamed is None else (renamed,):
            sensor = await self._look_up(name)
            if sensor is None:
                continue
            if sensor.is_active:
                found = sensor.identifier
                if inactive is not None:
                    self._say(f"rows of {inactive}, which takes none any more, go to {name}")
                break
            inactive = inactive or sensor.identifier
        self._found[names] = found or inactive

    async def _look_up(self, name: str) -> "_Sensor | None":
        listed = (self._listed or {}).get(name.lower() if is_uuid(name) else name)
        if listed is not None:
            return listed
        response = await self._server.request("GET", f"/sensors/{quote(name, safe='')}")
        if response.status_code == 404:
            return None
        if response.status_code != 200:
            raise StartError(f"sensor {name!r}: {_reason(response)}")
        return _sensor(response.json())

    async def _list(self) -> dict[str, "_Sensor"]:
        """Return the sensors of the server's list, where the caller may read it, by their names.

        A page each time: one by one, a file of ten thousand sensors would wait for as many
        answers before its first row is sent.
        """
        listed: dict[str, _Sensor] = {}
        offset, total = 0, 1
        while offset < min(total, MOST_NAMES):
            response = await self._server.request(
                "GET", f"/sensors?offset={offset}&limit={LIST_PAGE}"
            )
            if response.status_code != 200 or not (page := response.json()):
                break
            for each in page:
                sensor = _sensor(each)
                listed[sensor.identifier] = sensor
                if each["device_id"]:
                    listed[each["device_id"]] = sensor
            offset, total = offset + len(page), int(response.headers["x-total-count"])
        return listed


class _Sensor(NamedTuple):
    identifier: str
    is_active: bool


def _sensor(representation: dict[str, Any]) -> _Sensor:
    return _Sensor(representation["sensor_identifier"], representation["is_active"])


class _Server:
    """The server as somebody sees it who does not give up at once."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._places = asyncio.Semaphore(AT_ONCE)
        self._has_answered = False
        # Until then the server wants no request, by the clock of the event loop.
        self._resume_at = 0.0

    async def request(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        """Return the answer; a server that is away or busy is asked again.

        Raises:
            StartError: it stays away, or does not let us in.
        """
        problem: Any = None
        clock = asyncio.get_running_loop().time
        headers = {} if body is None else {"Content-Type": "application/json"}
        for attempt in range(MOST_ATTEMPTS):
            if attempt:
                await asyncio.sleep(min(LONGEST_WAIT_SECONDS, 0.2 * 2**attempt))
            try:
                async with self._places:
                    if (seconds := self._resume_at - clock()) > 0:
                        await asyncio.sleep(seconds)
                    response = await self._client.request(
                        method, path, content=body, headers=headers
                    )
            except httpx.TransportError as error:
                if isinstance(error, httpx.ConnectError) and not self._has_answered:
                    # There is no server there.
                    raise _away(self._client, error) from error
                problem = error
                continue
            self._has_answered = True
            if response.status_code == httpx.codes.UNAUTHORIZED:
                raise StartError(f"{self._client.base_url.host}: the key is not accepted")
            if response.status_code != 429 and response.status_code < 500:
                return response
            problem = _reason(response)
            self._resume_at = max(self._resume_at, clock() + _retry_after(response))
        raise _away(self._client, problem)


async def _all_of(work: Callable[[T], Awaitable[R]], given: Sequence[T]) -> list[R]:
    """Return what the work returns of each, a few at a time, in no order."""
    waiting = iter(given)
    results: list[R] = []

    async def one_after_the_other() -> None:
        for each in waiting:
            results.append(await work(each))  # noqa: PERF401 - they are shared

    try:
        async with asyncio.TaskGroup() as tasks:
            for number in range(min(AT_ONCE, len(given))):
                tasks.create_task(one_after_the_other(), name=f"import-{number}")
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return results


@functools.lru_cache(MOST_NAMES)
def _beginning(sensor: str) -> bytes:
    """Return how an element begins that names its sensor."""
    return b'{"device_id":"%b",' % sensor.encode()


def _alone(kind: Kind, sensor: str, text: bytes) -> str | None:
    """Return the sensor by whose own path an element goes; None: it goes with those of others.

    A heartbeat may have a `device_id` among its details, beside which none can name its sensor.
    """
    return sensor if kind is Kind.HEARTBEAT and b'"device_id":' in text else None


def _bodies(group: _Body) -> list[_Body]:
    """Return the elements in bodies that a route takes."""
    bodies: list[_Body] = []
    count = len(group.lines)
    waiting = [group.piece(at, at + BODY_ELEMENTS) for at in range(0, count, BODY_ELEMENTS)]
    while waiting:
        body = waiting.pop()
        size = sum(map(len, body.texts)) + ADDRESS_BYTES * len(body.texts)
        half = len(body.texts) // 2
        if half and size > BODY_BYTES:
            waiting += [body.piece(0, half), body.piece(half, len(body.texts))]
        else:
            bodies.append(body)
    return bodies[::-1]


def _divided(body: _Body, status: int) -> list[_Body]:
    """Return the parts in which a body that was refused whole is sent again; none: it is not.

    A caller who may not send as one of its sensors may as others.
    """
    if status == httpx.codes.FORBIDDEN:
        sensors: dict[str, list[int]] = {}
        for at, sensor in enumerate(body.sensors):
            sensors.setdefault(sensor, []).append(at)
        return [*map(body.only, sensors.values())] if len(sensors) > 1 else []
    half = len(body.texts) // 2
    if not half or status not in _DIVISIBLE:
        return []
    return [body.piece(0, half), body.piece(half, len(body.texts))]


def _retry_after(response: httpx.Response) -> float:
    """Return how many seconds the server wants no request; of a date in place of them, 0."""
    text = response.headers.get("retry-after", "")
    is_number = text.isascii() and text.isdigit()
    return min(float(text), LONGEST_RETRY_AFTER_SECONDS) if is_number else 0.0


def _without_sensor(names: tuple[str, ...]) -> str:
    if not names:
        return "names no sensor: give one with --sensor"
    return f"sensor {' or '.join(map(repr, names))} not found"


def _reason(response: httpx.Response) -> str:
    try:
        return f"{response.json()['code']}: {refusal(response)}"
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code}"


def _away(client: httpx.AsyncClient, problem: object) -> StartError:
    return StartError(
        f"{client.base_url}: {problem or type(problem).__name__}; is the server running? The same"
        " command goes on from where this one ended"
    )
