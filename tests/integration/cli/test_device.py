"""`heliograph device`: what it shows, and how devices are taken out of use, on both engines."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from bare_environment import without_variables
from commands import called
from engines import SQLITE_FIRST
from heliograph.model.time import SECOND, now
from heliograph.store import Store, open_store
from heliograph.store.engine import Batch
from rows import measurement
from server import ServerThread


@pytest.fixture(params=SQLITE_FIRST)
def database(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated database."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def program(database: str, tmp_path: Path) -> Any:
    """Return a function that calls the program, which has to succeed unless `status` says else."""

    def call(*arguments: str, status: int = 0, typed: str = "") -> str:
        environment = {**without_variables(), "DATABASE_URL": database}
        done = called("device", *arguments, environment=environment, folder=tmp_path, typed=typed)
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    return call


def on_store(url: str, work: Any) -> Any:
    async def run() -> Any:
        store = await open_store(url)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def listed(program: Any, *arguments: str) -> list[str]:
    return [device["device_id"] for device in json.loads(program("list", "--json", *arguments))]


def test_list_is_narrowed_by_each_of_its_options_and_by_several(program, database):
    program("create", "a", "--model", "T-1", "--modality", "heat", "--serial-number", "1")
    program("create", "b", "--model", "T-1", "--manufacturer", "Acme", "--tag", "roof", "--tag=dry")
    program("create", "c", "--model", "T-2")
    program("deactivate", "c")

    async def fill(store: Store) -> None:
        for name, interval in (("a", 1), ("b", 10_000)):
            sensor = await store.sensors.find(name)
            assert sensor is not None
            await store.sensors.change(sensor.number, expected_interval=interval * SECOND)
            await store.sensors.touch([(sensor.number, now() - 60 * SECOND, None)])
            await store.connections.note([(sensor.number, name == "b", now())])

    on_store(database, fill)
    for options, wanted in (
        ((), ["a", "b", "c"]),
        (("--model", "T-1"), ["a", "b"]),
        (("--modality", "heat"), ["a"]),
        (("--serial-number", "1"), ["a"]),
        (("--manufacturer", "Acme"), ["b"]),
        (("--active",), ["a", "b"]),
        (("--inactive",), ["c"]),
        (("--connected",), ["b"]),
        (("--not-connected",), ["a", "c"]),
        (("--late",), ["a"]),
        (("--not-late",), ["b", "c"]),
        (("--model", "T-1", "--connected"), ["b"]),
        (("--network", "default", "--inactive"), ["c"]),
        (("--model", "T-3"), []),
        (("--tag", "roof", "--tag", "dry", "--connected", "--not-late"), ["b"]),
        (("--tag", "roof", "--tag", "wet"), []),
        (("--text", "acm"), ["b"]),
        (("--text", "T-", "--active"), ["a", "b"]),
    ):
        assert listed(program, *options) == wanted, options


def test_show_says_all_but_the_key(program, database):
    key = json.loads(program("create", "pump", "--name", "a\x1b[31m", "--model", "T-1", "--json"))[
        "api_key"
    ]
    shown = json.loads(program("show", "pump", "--json"))
    assert (
        shown.items()
        >= {
            "device_id": "pump",
            "name": "a\x1b[31m",
            "model": "T-1",
            "network_name": "default",
            "is_active": True,
            "has_key": True,
            "connected": None,
            "late": None,
            "revision": None,
            "last_seen_at": None,
            "deleted_at": None,
        }.items()
    )
    assert json.loads(program("show", shown["id"].upper(), "--json")) == shown
    lines = dict(line.split(None, 1) for line in program("show", "pump").splitlines())
    assert (lines["model"], lines["is_active"], lines["revision"]) == ("T-1", "yes", "-")
    assert lines["name"] == r"a\x1b[31m"
    assert key not in program("show", "pump") + program("show", "pump", "--json")


def test_a_device_that_nobody_knows_is_named_with_what_may_be_meant(program):
    program("create", "greenhouse-1")
    for command in ("show", "rotate", "revoke", "deactivate", "activate", "delete"):
        said = program(command, "greenhose-1", status=1)
        assert said == (
            "heliograph: device 'greenhose-1' not found: did you mean `greenhouse-1`?\n"
        )
        assert program(command, "zz", status=1) == "heliograph: device 'zz' not found\n"


def test_a_key_is_ended_by_itself_and_the_device_stays_in_use(program, database):
    program("create", "pump")
    for _ in range(2):
        program("revoke", "pump")
    shown = json.loads(program("show", "pump", "--json"))
    assert (shown["is_active"], shown["has_key"]) == (True, False)
    sensor = on_store(database, lambda store: store.sensors.find("pump"))
    assert (sensor.key_hash, sensor.is_active) == (None, True)
    program("rotate", "pump")
    assert json.loads(program("show", "pump", "--json"))["has_key"] is True


def test_a_device_out_of_use_comes_back_with_its_key(program, database):
    program("create", "pump")
    before = on_store(database, lambda store: store.sensors.find("pump"))
    program("deactivate", "pump")
    program("deactivate", "pump")
    assert json.loads(program("show", "pump", "--json"))["is_active"] is False
    program("activate", "pump")
    assert on_store(database, lambda store: store.sensors.find("pump")) == before


def test_what_is_deleted_is_in_no_list_and_stays_readable(program, database):
    identifier = json.loads(program("create", "pump", "--json"))["id"]

    async def fill(store: Store) -> None:
        sensor = await store.sensors.find("pump")
        assert sensor is not None
        await store.write(Batch(measurements=[measurement(sensor.number, now())]))

    on_store(database, fill)
    program("delete", "pump")
    program("delete", "pump")
    assert listed(program) == []
    shown = json.loads(program("show", identifier, "--json"))
    assert shown["deleted_at"] is not None
    said = program("deactivate", "pump", status=1)
    assert said == "heliograph: device 'pump' is deleted: device activate undoes that\n"
    program("activate", "pump")
    assert listed(program) == ["pump"]

    async def count(store: Store) -> int:
        sensor = await store.sensors.find("pump")
        assert sensor is not None
        assert sensor.key_hash is None
        page = await store.measurements.page(sensor.number, key=None, direction="next", limit=9)
        return len(page)

    assert on_store(database, count) == 1
    # Erased is what somebody has said yes to.
    program("delete", "pump", "--data", "delete", status=1, typed="n\n")
    program("delete", "pump", "--data", "delete", status=1)
    assert listed(program) == ["pump"]
    program("delete", "pump", "--data", "delete", typed="y\n")
    program("show", identifier, status=1)
    program("create", "pump")
    program("delete", "pump", "--data", "delete", "--yes")
    program("show", "pump", status=1)


def test_beside_a_server_on_sqlite_the_server_erases(tmp_path):
    with ServerThread(tmp_path) as server:
        server.device("pump")
        environment = {**without_variables(), **server.environment}
        arguments = ("device", "delete", "pump", "--data", "delete", "--yes")
        done = called(*arguments, environment=environment, folder=tmp_path)
        assert done.returncode == 1
        assert "a server uses " in done.stderr
        assert "DELETE /sensors/<id>?data=delete" in done.stderr
        assert server.http.get("/devices/pump").json()["is_active"] is True
        # All else it learns of.
        called("device", "deactivate", "pump", environment=environment, folder=tmp_path)
        assert called("device", "show", "pump", "--json", environment=environment, folder=tmp_path)
