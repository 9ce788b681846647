"""The Grafana dashboard's queries run on the views, with Grafana's macros written out."""

import json
import re
from pathlib import Path

import psycopg
import pytest

from heliograph.model.time import DAY, HOUR, MINUTE, now
from heliograph.rollups.task import Rolling
from heliograph.store import open_store
from heliograph.store.engine import Batch
from rows import NOON, log, measurement

DASHBOARD = json.loads(
    (Path(__file__).parents[2] / "deploy/grafana/heliograph.json").read_text("utf-8")
)
MACROS = [
    (r"\$__timeGroup\((\w+), \$__interval\)", r"date_trunc('minute', \1)"),
    (r"\$\{__from\}", str(NOON // 1_000 - 1)),
    (r"\$\{__to\}", str(NOON // 1_000 + 1)),
    (r"\$device", "'pump-1'"),
    (r"\$attribute", "'t'"),
]


def queries():
    for panel in DASHBOARD["panels"]:
        yield from (target["rawSql"] for target in panel["targets"])
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]


@pytest.fixture
async def filled(postgresql_url):
    store = await open_store(postgresql_url)
    sensor = await store.sensors.create(identifier="0" * 32, device_id="pump-1", created_at=NOON)
    await store.write(
        Batch(
            measurements=[measurement(sensor.number, NOON, {"t": 1.5})],
            logs=[log(sensor.number)],
            attributes=[(sensor.number, "t")],
        )
    )

    async def without_a_pause():
        pass

    rolling = Rolling(store, without_a_pause)
    await rolling.advance(NOON + HOUR)
    await rolling.redo(await rolling.newest_mark())
    while await rolling.fill():
        pass
    await store.close()
    return postgresql_url


@pytest.mark.parametrize("query", list(queries()))
async def test_each_query_finds_what_is_there(filled, query):
    for pattern, replacement in MACROS:
        query = re.sub(pattern, replacement, query)
    assert "$" not in query
    with psycopg.connect(filled) as connection:
        assert len(connection.execute(query).fetchall()) == 1


async def test_a_recent_curve_is_of_rows_and_ends_with_them(filled):
    moment = now()
    store = await open_store(filled)
    sensor = await store.sensors.create(identifier="1" * 32, device_id="b", created_at=NOON)
    rows = [measurement(sensor.number, moment - at * MINUTE, {"t": at}) for at in (5, 1)]
    await store.write(Batch(measurements=rows))
    await store.close()
    query = DASHBOARD["panels"][0]["targets"][0]["rawSql"]
    for begins in (HOUR, 30 * DAY):
        text = query
        for pattern, replacement in [
            (r"\$\{__from\}", str((moment - begins) // 1_000)),
            (r"\$\{__to\}", str(moment // 1_000 + 1)),
            (r"\$device", "'b'"),
            *MACROS,
        ]:
            text = re.sub(pattern, replacement, text)
        with psycopg.connect(filled) as connection:
            assert [row[2] for row in connection.execute(text).fetchall()] == [5, 1], begins
