"""`heliograph device import`: a file of devices, all or none, each key given out once."""

import asyncio
import csv
import io
import stat
import uuid
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bare_environment import work_in
from engines import SQLITE_FIRST
from heliograph.cli.main import app
from heliograph.errors import StartError
from heliograph.model.credentials import hash_key
from heliograph.model.sensor import Sensor
from heliograph.model.time import SECOND, now
from heliograph.store import Store, open_store


@pytest.fixture(autouse=True, params=SQLITE_FIRST)
def database(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Work in an empty folder, on a migrated database; return its URL."""
    work_in(tmp_path, monkeypatch)
    url: str = request.getfixturevalue(f"{request.param}_url")
    monkeypatch.setenv("DATABASE_URL", url)
    return url


def write(text: str, encoding: str = "utf-8") -> str:
    Path("devices.csv").write_bytes(text.encode(encoding))
    return "devices.csv"


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["device", "import", *arguments])


def keys(text: str) -> dict[str, str]:
    rows = list(csv.DictReader(io.StringIO(text)))
    assert all(list(row) == ["device_id", "id", "api_key"] for row in rows)
    return {row["device_id"]: row["api_key"] for row in rows}


def imported(*arguments: str) -> Any:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refusal(*arguments: str) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, StartError), result.output
    assert result.stdout == ""
    return str(result.exception)


def on_store(url: str, work: Any) -> Any:
    async def run_work() -> Any:
        store = await open_store(url)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run_work())


def registered(url: str) -> dict[str | None, Sensor]:
    async def work(store: Store) -> list[Sensor]:
        return (await store.sensors.list(networks=None, offset=0, limit=100))[0]

    return {sensor.device_id: sensor for sensor in on_store(url, work)}


def make_network(url: str, name: str) -> str:
    async def work(store: Store) -> str:
        network = await store.networks.create(
            identifier=str(uuid.uuid4()), name=name, created_at=now(), owner=None
        )
        return network.identifier

    identifier: str = on_store(url, work)
    return identifier


def test_each_line_is_a_device_with_a_key_of_its_own(database):
    network = make_network(database, "roof")
    path = write(
        "device_id,name,network_identifier,serial_number,expected_interval\r\n"
        f"d-1,Ünï,{network.upper()},s-1,90\r\n"
        '\r\nd-2,"two\r\nlines",,,\r\n'
        "d-3\r\n",
        "utf-8-sig",
    )
    result = imported(path)
    given = keys(result.stdout)
    assert result.stderr == "registered 3, registered before 0\n"
    found = registered(database)
    assert list(found) == list(given) == ["d-1", "d-2", "d-3"]
    assert all(found[name].key_hash == hash_key(key) for name, key in given.items())
    first = found["d-1"]
    assert (first.name, first.network_identifier) == ("Ünï", network)
    assert (first.serial_number, first.expected_interval) == ("s-1", 90 * SECOND)
    assert found["d-2"].name == "two\nlines"
    assert found["d-3"].name is None


def test_a_run_again_registers_only_what_is_new(database):
    imported(write("device_id\nd-1\nd-2\n"))
    before = registered(database)
    again = imported(write("device_id\nd-1\nd-2\n"))
    assert (again.stdout, again.stderr) == ("", "registered 0, registered before 2\n")
    more = imported(write("device_id\nd-1\nd-3\nd-2\n"))
    assert list(keys(more.stdout)) == ["d-3"]
    after = registered(database)
    assert list(after) == ["d-1", "d-2", "d-3"]
    assert {name: after[name] for name in before} == before


def test_keys_go_to_a_new_file_that_nobody_else_may_read(database):
    path = write("device_id\nd-1\n")
    result = imported(path, "--output", "keys.csv")
    assert result.stdout == ""
    kept = Path("keys.csv")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    text = kept.read_text()
    assert registered(database)["d-1"].key_hash == hash_key(keys(text)["d-1"])
    refused = refusal(write("device_id\nd-2\n"), "--output", "keys.csv")
    assert refused == "can't write keys.csv: File exists"
    assert kept.read_text() == text
    assert list(registered(database)) == ["d-1"]
    nowhere = refusal(write("device_id\nd-2\n"), "--output", "no/such.csv")
    assert nowhere == "can't write no/such.csv: No such file or directory"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("device_id\nd-9\na b\n", "line 3: device_id has to be"),
        ("device_id,network_identifier\nd-9,\nd-8,x\n", "line 3: network 'x' not found"),
        ("device_id,serial_number\nd-9,\nd-8,s-1\n", "line 3: serial_number is already registered"),
        ("device_id,sensor_name\nd-9,a\nd-8,a\n", "line 3: sensor_name is already registered"),
    ],
)
def test_one_bad_line_is_named_and_nothing_is_registered(database, text, expected):
    imported(write("device_id,serial_number\nd-1,s-1\n"))
    assert refusal(write(text), "--output", "keys.csv").startswith(expected)
    assert list(registered(database)) == ["d-1"]
    assert not Path("keys.csv").exists()


def test_a_device_of_another_network_is_not_taken_for_the_same(database):
    imported(write("device_id\nd-1\n"))
    network = make_network(database, "roof")
    line = refusal(write(f"device_id,network_identifier\nd-2,\nd-1,{network}\n"))
    assert line == "line 3: device_id 'd-1' is already registered in another network"
    assert list(registered(database)) == ["d-1"]
