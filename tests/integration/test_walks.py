"""How far a reader of the code has to walk: what a message and a request pass on their way.

A walk is what of `heliograph` is called between a request and its answer, by the loop and by the
threads of the database: warm, on real sockets, with authentication, limits and metrics, and with
a row that is newly committed. What not every one of several walks passes belongs to something
else that went on meanwhile.
"""

import asyncio
import contextlib
import itertools
import re
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

import httpx
import pytest

import heliograph
from mqtt_client import publish, subscribe
from server import ADMIN_KEY, Server, running, served

pytestmark = pytest.mark.uncovered

PACKAGE = Path(heliograph.__file__).parent
CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
WARM_UP = 10
WALKS = 5

# Functions and files that a walk may pass: as many as it does today and a few more, to be
# lowered with every step that makes it shorter.
BOUNDS = {
    "PUBLISH": (51, 15),
    "POST /ingest": (71, 19),
    "POST /ingest, watched": (121, 30),
    "GET aggregates": (83, 25),
    "GET measurements": (63, 20),
}

Go = Callable[[], Awaitable[object]]


class Walk(NamedTuple):
    """The functions that were called, in the order of their first calls."""

    functions: tuple[CodeType, ...]

    @property
    def files(self) -> list[str]:
        """The files that they are in, below the package, each once."""
        paths = (Path(code.co_filename).relative_to(PACKAGE) for code in self.functions)
        return list(dict.fromkeys(map(str, paths)))

    def __str__(self) -> str:
        lines = [f"{len(self.functions)} functions in {len(self.files)} files"]
        for file in self.files:
            names = (c.co_name for c in self.functions if c.co_filename == str(PACKAGE / file))
            lines.append(f"  {file}: {', '.join(names)}")
        return "\n".join(lines)


class Recorder:
    """Notes which functions of the package are called while it is on, in any thread."""

    def __init__(self) -> None:
        self._called: dict[CodeType, None] | None = None

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        called, code = self._called, frame.f_code
        if called is not None and event == "call" and code.co_filename.startswith(f"{PACKAGE}/"):
            called.setdefault(code)

    async def walk(self, go: Go, *, before: Go | None = None) -> Walk:
        """Return what all of several walks passed; `before` goes before each, unseen."""
        for _ in range(WARM_UP):
            await go()
        walks: list[dict[CodeType, None]] = []
        for _ in range(WALKS):
            if before is not None:
                await before()
            self._called = {}
            await go()
            walks.append(self._called)
            self._called = None
        # The order is that of the walk beside which the least went on.
        quietest = min(walks, key=len)
        return Walk(tuple(code for code in quietest if all(code in walk for walk in walks)))


@contextlib.contextmanager
def recording() -> Iterator[Recorder]:
    """Have this thread and all that start from now on recorded."""
    recorder = Recorder()
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    try:
        yield recorder
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type] # None takes it back


@contextlib.asynccontextmanager
async def site(folder: Path) -> AsyncIterator[tuple[Server, str]]:
    """Run a server with its limits on; give its address for HTTP too."""
    limits = {"rate_limit_failed_logins": 30, "mqtt_max_connections_per_principal": 100}
    # Of many requests only a few are written to the log.
    async with (
        running(folder, **limits, log_levels="api=warning") as server,
        served(server.application.web) as port,
    ):
        yield server, f"http://127.0.0.1:{port}"


async def measure(folder: Path, recorder: Recorder) -> dict[str, Walk]:
    numbers = itertools.count(1)
    async with site(folder) as (server, url):
        device = await server.device()
        connection = await server.connect(device)
        key = {"X-API-Key": device.key}

        async def send() -> None:
            number = next(numbers)
            connection.send(publish(device.topic, b'{"value":%d}' % number, packet_id=number))
            assert (await connection.packet())[0] == 0x40

        async with httpx.AsyncClient(base_url=url, headers=key, timeout=60) as http:

            async def post() -> None:
                response = await http.post("/ingest", json={"value": next(numbers)})
                assert response.status_code == 201, response.text

            def get(path: str) -> Go:
                async def get() -> None:
                    response = await http.get(f"/sensors/{device.device_id}/{path}")
                    assert response.status_code == 200, response.text

                return get

            walks = {
                "PUBLISH": await recorder.walk(send),
                "POST /ingest": await recorder.walk(post),
                "GET aggregates": await recorder.walk(
                    get("aggregates?bucket=1h&range=7d"), before=send
                ),
                "GET measurements": await recorder.walk(get("measurements?limit=10"), before=send),
            }
            viewer = await server.admin()
            viewer.send(subscribe("measurements/+", qos=0))
            assert (await viewer.packet())[0] == 0x90
            admin = {"X-API-Key": ADMIN_KEY}
            async with http.stream("GET", "/events?kind=measurement", headers=admin) as stream:
                lines = stream.aiter_lines()

                async def watched() -> None:
                    await post()
                    assert (await viewer.packet())[0] == 0x30
                    while not (await anext(lines)).startswith("data:"):
                        pass

                walks["POST /ingest, watched"] = await recorder.walk(watched)
        return walks


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Walk]:
    with recording() as recorder:
        return asyncio.run(measure(tmp_path_factory.mktemp("walks"), recorder))


@pytest.mark.parametrize("name", BOUNDS)
def test_a_walk_stays_as_short_as_it_is(walks: dict[str, Walk], name: str) -> None:
    walk = walks[name]
    print(f"{name}: {walk}")
    functions, files = BOUNDS[name]
    assert len(walk.functions) <= functions
    assert len(walk.files) <= files


@pytest.mark.parametrize("name", ["PUBLISH", "GET measurements"])
def test_contributing_tells_a_walk_as_it_is(walks: dict[str, Walk], name: str) -> None:
    """Every file is named, and the steps are in the order in which the first of each is reached."""
    section = CONTRIBUTING.read_text().partition(f"### {name}")[2].partition("\n#")[0]
    steps = [re.findall(r"`([\w/]+\.py)`", step) for step in re.split(r"\n\d+\. ", section)[1:]]
    assert len(steps) == 10
    assert {file for step in steps for file in step} == set(walks[name].files)
    first = [walks[name].files.index(step[0]) for step in steps]
    assert first == sorted(first)
