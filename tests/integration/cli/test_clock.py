"""`heliograph clock accept`, beside a running server and without one."""

import asyncio
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bare_environment import work_in
from heliograph.cli.main import app
from heliograph.errors import StartError
from heliograph.model.identifiers import first_ingest_id
from heliograph.model.time import DAY, now, to_rfc3339
from heliograph.store import open_store
from heliograph.store.clock import Acceptance
from heliograph.store.engine import Batch
from rows import measurement


@pytest.fixture(autouse=True, params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Work on a database; return its URL."""
    work_in(tmp_path, monkeypatch)
    url = str(request.getfixturevalue(f"{request.param}_url"))
    monkeypatch.setenv("DATABASE_URL", url)
    return url


def run() -> Result:
    return CliRunner().invoke(app, ["clock", "accept"])


async def fill(url: str, receipt: int) -> int:
    """Store a row that was received then; return its id."""
    store = await open_store(url)
    sensor = await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)
    row_id = first_ingest_id(receipt)
    row = (row_id, *measurement(sensor.number, receipt, receipt=receipt)[1:])
    await store.write(Batch(measurements=[row]))
    await store.close()
    return row_id


async def acceptance(url: str) -> Acceptance:
    store = await open_store(url)
    found = (await store.clock.read()).acceptance
    await store.close()
    return found


def test_it_is_noted_which_rows_are_from_beyond_now(database: str) -> None:
    ahead = now() + 2 * DAY
    row_id = asyncio.run(fill(database, ahead))
    before = now()
    result = run()
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("accepted: the clock shows ")
    assert to_rfc3339(ahead) in result.stdout
    found = asyncio.run(acceptance(database))
    assert before <= found.at <= now()
    assert found[1:] == (row_id, ahead)


def test_it_does_no_harm_where_nothing_is_ahead(database: str) -> None:
    row_id = asyncio.run(fill(database, now() - DAY))
    result = run()
    assert result.exit_code == 0, result.output
    assert "until" not in result.stdout
    found = asyncio.run(acceptance(database))
    assert found == (found.at, row_id, found.at)


def test_a_clock_that_cannot_be_right_is_not_accepted(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliograph.cli.clock.now", lambda: 1_000_000_000_000_000)
    result = run()
    assert isinstance(result.exception, StartError)
    assert "set it first" in str(result.exception)
    assert asyncio.run(acceptance(database)) == (0, 0, 0)
