"""`heliograph retention`, on both engines."""

import asyncio
import json
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bare_environment import work_in
from heliograph.cli.main import app
from heliograph.errors import StartError
from heliograph.model.retention import Horizon
from heliograph.model.time import DAY, now
from heliograph.store import open_store
from heliograph.store.claim import Claim
from heliograph.store.engine import Batch
from rows import heartbeat, log, measurement, packet


@pytest.fixture(autouse=True, params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Work on a database with rows of 40, 20 and no days; return its URL."""
    work_in(tmp_path, monkeypatch)
    url = str(request.getfixturevalue(f"{request.param}_url"))
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("RETENTION_DAYS", "30")
    monkeypatch.setenv("ROLLUP_RETENTION_DAYS", "30")
    monkeypatch.setenv("LOG_RETENTION_DAYS", "10")

    async def fill() -> None:
        store = await open_store(url)
        sensor = await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)
        times = [now() - days * DAY for days in (40, 20, 0)]
        await store.write(
            Batch(
                measurements=[measurement(sensor.number, each) for each in times],
                logs=[log(sensor.number, each) for each in times],
                heartbeats=[heartbeat(sensor.number, each) for each in times],
                packets=[
                    packet(number, each) for each in times for number in (sensor.number, None)
                ],
            )
        )
        await store.close()

    asyncio.run(fill())
    return url


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["retention", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def due() -> dict[str, int]:
    (network,) = json.loads(run("plan", "--json"))["networks"].values()
    return {kind: each["rows"] for kind, each in network.items()}


def test_the_plan_removes_nothing_and_the_run_what_it_says() -> None:
    planned = {"measurements": 1, "logs": 2, "heartbeats": 2, "packets": 2, "rollups": 0}
    assert due() == planned
    heading, row = run("plan").splitlines()
    assert heading.split() == ["network", "sensors", *planned, "bytes"]
    assert row.split()[:7] == ["default", "1", "1", "2", "2", "2", "0"]
    assert due() == planned
    assert run("run").startswith("removed ")
    assert due() == dict.fromkeys(planned, 0)


def test_on_sqlite_the_server_runs_it(database: str) -> None:
    claim = Claim(database)
    try:
        result = CliRunner().invoke(app, ["retention", "run"])
    finally:
        claim.release()
    if database.startswith("sqlite"):
        assert isinstance(result.exception, StartError)
        assert due()["measurements"] == 1
    else:
        assert result.exit_code == 0
        assert due()["measurements"] == 0


def test_a_run_goes_no_further_than_the_time_that_passed_until_it_is_accepted(
    database: str,
) -> None:
    planned = due()

    async def rewind() -> None:
        store = await open_store(database)
        earlier = now() - 15 * DAY
        await store.clock.move_horizon(lambda _: Horizon(earlier, earlier, 0))
        await store.close()

    asyncio.run(rewind())
    result = CliRunner().invoke(app, ["retention", "run"])
    assert result.exit_code == 0, result.output
    assert "heliograph retention accept" in result.stderr
    # By the earlier time one row of each was due already, or none.
    assert due() == {**dict.fromkeys(planned, 0)}
    plan = CliRunner().invoke(app, ["retention", "plan"])
    assert "by 15.0 days" in plan.stderr
    assert run("accept").startswith("accepted: ")
    assert due() == {**planned, "logs": 1, "heartbeats": 1, "packets": 1}
    run("run")
    assert due() == dict.fromkeys(planned, 0)


def test_the_plan_tells_what_waits_for_its_rollups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLUP_RETENTION_DAYS", "0")
    assert json.loads(run("plan", "--json"))["not_rolled_up"] == 1
    result = CliRunner().invoke(app, ["retention", "plan"])
    assert "kept until rolled up: 1 measurement" in result.stderr
