"""Sending elements to a running server, so that they are stored as all others are."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from heliograph.cli.refusals import refusal
from heliograph.errors import StartError
from heliograph.exchange.elements import Element
from heliograph.model.records import Kind

ROUTES = {Kind.MEASUREMENT: "measurements", Kind.LOG: "logs", Kind.HEARTBEAT: "heartbeats"}
# A route takes 1 MiB and 10,000 elements.
BODY_BYTES = 900_000
BODY_ELEMENTS = 5_000
AT_ONCE = 4
TIME_OUT_SECONDS = 30.0
# About five minutes of a server that is away or busy.
MOST_ATTEMPTS = 60
LONGEST_WAIT_SECONDS = 5.0
MOST_NAMES = 200_000

# A body that is refused whole for something in it.
_DIVISIBLE = frozenset((400, 413, 422))


class Line(NamedTuple):
    """An element and the line that it was read from."""

    number: int
    element: Element


class Bad(NamedTuple):
    """A line that was left out, and why."""

    number: int
    reason: str


class Sent(NamedTuple):
    """What became of elements."""

    accepted: int = 0
    duplicates: int = 0
    bad: tuple[Bad, ...] = ()

    def plus(self, other: "Sent") -> "Sent":
        """Return the sum of both."""
        return Sent(
            self.accepted + other.accepted,
            self.duplicates + other.duplicates,
            self.bad + other.bad,
        )


class Sender:
    """Sends elements, a body for each sensor and kind.

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
        self._client = client
        self._default = default_sensor
        self._renamed = renamed
        self._say = say
        self._found: dict[tuple[str, ...], str | None] = {}

    async def send(self, lines: Sequence[Line]) -> Sent:
        """Return when everything is committed, or known to be bad.

        Raises:
            StartError: the server stays away, or does not let us in.
        """
        groups: dict[tuple[Kind, tuple[str, ...]], list[Line]] = {}
        for line in lines:
            names = line.element.sensors or ((self._default,) if self._default else ())
            groups.setdefault((line.element.kind, names), []).append(line)
        bodies = [
            (kind, names, body) for (kind, names), group in groups.items() for body in _split(group)
        ]
        waiting = iter(bodies)
        results: list[Sent] = []

        async def work() -> None:
            for kind, names, body in waiting:
                results.append(await self._send_group(kind, names, body))

        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(min(AT_ONCE, len(bodies))):
                    tasks.create_task(work(), name=f"import-{number}")
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        total = Sent()
        for result in results:
            total = total.plus(result)
        return total

    async def _send_group(self, kind: Kind, names: tuple[str, ...], lines: list[Line]) -> Sent:
        if not names:
            return _all_bad(lines, "names no sensor: give one with --sensor")
        sensor = await self._resolve(names)
        if sensor is None:
            return _all_bad(lines, f"sensor {' or '.join(map(repr, names))} not found")
        return await self._post(f"/sensors/{quote(sensor, safe='')}/{ROUTES[kind]}", lines)

    async def _post(self, path: str, lines: list[Line]) -> Sent:
        body = b"[%b]" % b",".join([line.element.text for line in lines])
        response = await self._request("POST", path, body)
        if response.status_code == 201:
            answer = response.json()
            bad = tuple(
                Bad(lines[fault["index"]].number, f"{fault['code']}: {fault['detail']}")
                for fault in answer["rejected"]
            )
            return Sent(answer["accepted"], answer["duplicates"], bad)
        if response.status_code in _DIVISIBLE and len(lines) > 1:
            half = len(lines) // 2
            first = await self._post(path, lines[:half])
            return first.plus(await self._post(path, lines[half:]))
        return _all_bad(lines, _reason(response))

    async def _resolve(self, names: tuple[str, ...]) -> str | None:
        """Return the UUID of the sensor that elements with these names go to; None: of none.

        The first name leads to it, unless to one that was deleted and made again: that takes
        nothing any more, but still goes by its UUID.
        """
        if names not in self._found:
            if len(self._found) >= MOST_NAMES:
                self._found.clear()
            self._found[names] = await self._look_up(names)
        return self._found[names]

    async def _look_up(self, names: tuple[str, ...]) -> str | None:
        renamed = next((self._renamed[name] for name in names if name in self._renamed), None)
        inactive = None
        for name in names if renamed is None else (renamed,):
            response = await self._request("GET", f"/sensors/{quote(name, safe='')}")
            if response.status_code == 404:
                continue
            if response.status_code != 200:
                raise StartError(f"sensor {name!r}: {_reason(response)}")
            sensor = response.json()
            found = str(sensor["sensor_identifier"])
            if sensor["is_active"]:
                if inactive is not None:
                    self._say(f"rows of {inactive}, which takes none any more, go to {name}")
                return found
            inactive = inactive or found
        return inactive

    async def _request(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        """Return the answer; a server that is away or busy is asked again."""
        problem: Any = None
        headers = {} if body is None else {"Content-Type": "application/json"}
        for attempt in range(MOST_ATTEMPTS):
            if attempt:
                await asyncio.sleep(min(LONGEST_WAIT_SECONDS, 0.2 * 2**attempt))
            try:
                response = await self._client.request(method, path, content=body, headers=headers)
            except httpx.TransportError as error:
                if attempt == 0 and isinstance(error, httpx.ConnectError) and not self._found:
                    # Nothing has been sent yet: there is no server there.
                    raise _away(self._client, error) from error
                problem = error
                continue
            if response.status_code == httpx.codes.UNAUTHORIZED:
                raise StartError(f"{self._client.base_url.host}: the key is not accepted")
            if response.status_code != 429 and response.status_code < 500:
                return response
            problem = _reason(response)
        raise _away(self._client, problem)


def _split(lines: list[Line]) -> Iterator[list[Line]]:
    """Yield the lines in bodies that a route takes."""
    body: list[Line] = []
    size = 0
    for line in lines:
        length = len(line.element.text) + 1
        if body and (size + length > BODY_BYTES or len(body) >= BODY_ELEMENTS):
            yield body
            body, size = [], 0
        body.append(line)
        size += length
    if body:
        yield body


def _all_bad(lines: list[Line], reason: str) -> Sent:
    return Sent(bad=tuple(Bad(line.number, reason) for line in lines))


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
