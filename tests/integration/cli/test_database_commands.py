"""The commands that work on the database itself, without a running server."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bare_environment import work_in
from heliograph.cli.main import app
from heliograph.errors import RejectionReason, StartError
from heliograph.model.credentials import hash_key
from heliograph.model.sensor import Sensor
from heliograph.model.time import now
from heliograph.store import open_store
from heliograph.store.engine import Batch

KEY = re.compile(r"hg_[A-Za-z0-9_-]{43}")


@pytest.fixture(autouse=True, params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Work in an empty folder, on a database of its own; return its URL.

    It is migrated, unless the test is marked `empty_database`: migrating takes a second.
    """
    work_in(tmp_path, monkeypatch)
    if request.node.get_closest_marker("empty_database") is None:
        url = str(request.getfixturevalue(f"{request.param}_url"))
    elif request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/heliograph.db"
    else:
        cluster = request.getfixturevalue("postgresql_cluster")
        url = cluster.dsn(cluster.create_database())
    monkeypatch.setenv("DATABASE_URL", url)
    return url


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def succeed(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(*arguments: str) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, StartError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def stored(url: str, device_id: str) -> Sensor:
    async def read() -> Sensor | None:
        store = await open_store(url)
        try:
            return await store.sensors.find(device_id)
        finally:
            await store.close()

    sensor = asyncio.run(read())
    assert sensor is not None
    return sensor


@pytest.mark.empty_database
class TestMigrate:
    def test_says_from_where_to_where(self):
        made = run("migrate")
        assert re.fullmatch(r"none → \d{4}\n", made.stdout)
        # In which folder somebody is, they may not know.
        assert re.fullmatch(r"a new database: (/|postgresql://).+\n", made.stderr)
        assert re.fullmatch(r"\d{4}: nothing to do\n", succeed("migrate"))

    def test_goes_back_when_told_to(self):
        succeed("migrate")
        assert run("migrate", "--downgrade").exit_code == 2
        assert succeed("migrate", "--downgrade", "--revision", "base").endswith(" → none\n")

    def test_an_unknown_revision_is_an_error(self):
        assert "9999" in refusal("migrate", "--revision", "9999")


class TestDevice:
    def test_is_created_with_a_key_that_is_printed(self, database):
        output = succeed("device", "create", "d-1", "--name", "Ünï", "--modality", "weather")
        (key,) = KEY.findall(output)
        sensor = stored(database, "d-1")
        assert sensor.key_hash == hash_key(key)
        assert (sensor.name, sensor.modality, sensor.is_active) == ("Ünï", "weather", True)

    def test_as_json(self, database):
        created = json.loads(succeed("device", "create", "d-1", "--json"))
        assert stored(database, "d-1").key_hash == hash_key(created["api_key"])
        (listed,) = json.loads(succeed("device", "list", "--json"))
        assert listed == {name: value for name, value in created.items() if name != "api_key"}

    def test_names_are_taken_once(self):
        succeed("device", "create", "d-1", "--serial-number", "s-1")
        assert refusal("device", "create", "d-1") == "device_id is already registered"
        line = refusal("device", "create", "d-2", "--serial-number", "s-1")
        assert line == "serial_number is already registered"

    @pytest.mark.parametrize("name", ["a b", "ü", "x" * 65, "8d4ed9a0-5e8b-4a8f-9a3b-0b7a4a6f1c11"])
    def test_a_bad_name_is_a_usage_error(self, name):
        assert run("device", "create", name).exit_code == 2

    def test_goes_to_the_network_named(self, database):
        succeed("device", "create", "d-1", "--network", "default")
        network = stored(database, "d-1").network_identifier
        succeed("device", "create", "d-2", "--network", network)
        assert stored(database, "d-2").network_identifier == network
        assert refusal("device", "create", "d-3", "--network", "x") == "network 'x' not found"

    def test_list_has_a_line_for_each_in_order(self):
        for name in ("b", "a", "c"):
            succeed("device", "create", name)
        lines = succeed("device", "list").splitlines()
        assert [line.split()[0] for line in lines] == ["device_id", "b", "a", "c"]
        assert not KEY.search("".join(lines))

    @pytest.mark.parametrize("by", ["device_id", "id"])
    def test_rotation_ends_the_old_key(self, database, by):
        created = json.loads(succeed("device", "create", "d-1", "--json"))
        (key,) = KEY.findall(succeed("device", "rotate", created[by]))
        assert key != created["api_key"]
        assert stored(database, "d-1").key_hash == hash_key(key)

    def test_rotation_of_an_unknown_device_is_an_error(self):
        assert refusal("device", "rotate", "nobody") == "device 'nobody' not found"


class TestRejected:
    def keep(self, url: str, payloads: list[bytes]) -> None:
        async def write() -> None:
            store = await open_store(url)
            rows = [
                (
                    number,
                    now(),
                    None,
                    "admin",
                    "measurements/d-1",
                    payload,
                    len(payload),
                    RejectionReason.MALFORMED_JSON.value,
                    f"detail {number}",
                    None,
                )
                for number, payload in enumerate(payloads, 1)
            ]
            await store.write(Batch(rejected=rows))
            await store.close()

        asyncio.run(write())

    def test_none(self):
        assert json.loads(succeed("rejected", "--json")) == []

    def test_are_listed_newest_first_up_to_the_limit(self, database):
        self.keep(database, [b"x"] * 150)
        details = [row["detail"] for row in json.loads(succeed("rejected", "--json"))]
        assert details == [f"detail {number}" for number in range(150, 130, -1)]
        assert len(json.loads(succeed("rejected", "--json", "--limit", "120"))) == 120
        assert len(json.loads(succeed("rejected", "--json", "--limit", "1000"))) == 150

    def test_show_why_and_the_first_bytes_harmlessly(self, database):
        self.keep(database, [b'{"a":\x1b[31m\xff' + b"y" * 100])
        result = run("rejected")
        line = result.stdout.splitlines()[1]
        assert "MALFORMED_JSON" in line
        assert "measurements/d-1" in line
        assert '{"a":\\x1b[31m\\xffyyy' in line
        assert "y…" in line
        assert "\x1b" not in result.output
        assert result.stderr == "1 of 1 kept\n"
