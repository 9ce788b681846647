"""`heliograph network`, and the names of networks wherever a command takes one, on both engines."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from bare_environment import without_variables
from commands import called
from engines import SQLITE_FIRST
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
        done = called(*arguments, environment=environment, folder=tmp_path, typed=typed)
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    return call


def listed(program: Any, *arguments: str) -> list[str]:
    devices = json.loads(program("device", "list", "--json", *arguments))
    return [device["device_id"] for device in devices]


def test_a_network_is_made_and_listed(program):
    identifier = str(uuid.uuid4())
    printed = program("network", "create", "Roof, north", "--id", identifier.upper())
    assert printed == f"network  Roof, north\nid       {identifier}\n"
    program("network", "create", "cellar", "--json")
    networks = json.loads(program("network", "list", "--json"))
    assert [network["network_name"] for network in networks] == ["default", "Roof, north", "cellar"]
    assert networks[1]["network_identifier"] == identifier
    lines = program("network", "list").splitlines()
    assert [line.split("  ")[0] for line in lines] == ["name", "default", "Roof, north", "cellar"]


def test_packing_is_refused_for_a_network_or_a_device(program):
    program("device", "create", "pump")
    program("network", "packing", "default", "off")
    program("device", "packing", "pump", "off")
    [network] = json.loads(program("network", "list", "--json"))
    [device] = json.loads(program("device", "list", "--json"))
    assert (network["packing"], device["packing"]) == (False, False)
    program("device", "packing", "pump", "on")
    assert json.loads(program("device", "show", "pump", "--json"))["packing"] is True
    said = program("network", "packing", "defualt", "off", status=1)
    assert "did you mean `default`" in said


def test_a_name_or_id_that_is_taken_or_none_is_refused(program):
    identifier = str(uuid.uuid4())
    program("network", "create", "roof", "--id", identifier)
    said = program("network", "create", "roof", status=1)
    assert said == "heliograph: the network 'roof' is already registered\n"
    said = program("network", "create", "cellar", "--id", identifier, status=1)
    assert said == f"heliograph: the id {identifier} is already registered\n"
    for name in ("", "x" * 256, "a\tb"):
        program("network", "create", name, status=2)


def test_its_owner_is_named(program, database):
    program("user", "create", "ada", "--password-stdin", typed="a password of Ada's\n")
    said = program("network", "create", "roof", "--owner", "adda", status=1)
    assert said == "heliograph: user 'adda' not found: did you mean `ada`?\n"
    network = json.loads(program("network", "create", "roof", "--owner", "ada", "--json"))

    async def members(store: Store) -> list[str]:
        found = await store.networks.members(network["network_identifier"])
        return [each.username for each in found]

    assert on_store(database, members) == ["ada"]


def on_store(url: str, work: Any) -> Any:
    async def run() -> Any:
        store = await open_store(url)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def test_every_command_takes_a_networks_name_or_uuid(program, database, tmp_path):
    roof = json.loads(program("network", "create", "Roof", "--json"))["network_identifier"]
    for name in ("default", "Roof", roof.upper()):
        program("device", "create", f"of-{name[:3]}".lower() + str(len(name)), "--network", name)
    (tmp_path / "devices.csv").write_text("device_id,network_identifier\npump,Roof\n")
    program("device", "import", "devices.csv")

    async def fill(store: Store) -> None:
        sensor = await store.sensors.find("pump")
        assert sensor is not None
        await store.write(Batch(measurements=[measurement(sensor.number, 1_700_000_000_000_000)]))

    on_store(database, fill)
    for name in ("Roof", roof, roof.upper()):
        assert len(listed(program, "--network", name)) == 3
        exported = program("export", "-", "--network", name)
        assert exported.count("\n") == 2
        entries = program("audit", "--json", "--network", name, "--action", "sensor.create")
        assert len(json.loads(entries)) == 3
    for command in (
        ("device", "create", "d", "--network", "roof"),
        ("device", "list", "--network", "roof"),
        ("export", "-", "--network", "roof"),
        ("audit", "--network", "roof"),
    ):
        said = program(*command, status=1)
        assert said == "heliograph: network 'roof' not found: did you mean `Roof`?\n"
    (tmp_path / "devices.csv").write_text("device_id,network_identifier\npomp,roof\n")
    said = program("device", "import", "devices.csv", status=1)
    assert said == "heliograph: line 2: network 'roof' not found: did you mean `Roof`?\n"
    # The log outlives networks.
    assert json.loads(program("audit", "--json", "--network", str(uuid.uuid4()))) == []


def test_tail_takes_a_networks_name_too(tmp_path):
    with ServerThread(tmp_path) as server:
        environment = {**without_variables(), **server.environment}
        done = called("tail", "defualt", environment=environment, folder=tmp_path)
    # Above it may stand what the server has logged meanwhile.
    assert done.stderr.endswith(
        "heliograph: network 'defualt' not found: did you mean `default`?\n"
    )
    assert done.stderr.count("heliograph: ") == 1
