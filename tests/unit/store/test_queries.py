"""What queries share is put in where they name it."""

import re

import pytest

from heliograph.store import queries as queries_module
from heliograph.store.queries import expanded, load_queries, texts

SCRIPT = """\
-- shared: page
SELECT {columns}
FROM a

-- name: first()
{page}
WHERE b = '{';

-- shared: columns
    -- In their order.
    b, c

-- name: second()
UPDATE a SET b = 1 RETURNING {columns};
"""


def test_shared_pieces_stand_where_they_are_named():
    texts = re.split(r"-- name: \w+\(\)", expanded(SCRIPT))
    text = " ".join(" ".join(texts).replace("-- In their order.", "").split())
    assert text == "SELECT b, c FROM a WHERE b = '{'; UPDATE a SET b = 1 RETURNING b, c;"


def test_an_unknown_piece_is_an_error():
    with pytest.raises(KeyError, match="columns"):
        expanded("-- name: first()\nSELECT {columns} FROM a;\n")


def test_a_query_of_several_tables_is_repeated():
    text = expanded("-- name: {table}s_count()\nSELECT count(*) FROM {table};\n\n-- name: one()\n")
    tables = ("measurement", "log", "heartbeat")
    counts = [f"-- name: {table}s_count()\nSELECT count(*) FROM {table};\n\n" for table in tables]
    assert text == "".join(counts) + "-- name: one()\n"


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_an_engines_queries_are_whole(engine, caplog):
    queries_module._read.cache_clear()
    queries = load_queries(engine)
    for name in texts(engine):
        assert queries[name].sql
    assert not caplog.messages, "each command would print them"
    assert len(queries) > 200
    assert not [name for name, query in queries.items() if "-- shared:" in query.sql]
    assert queries["sensor_by_number"].parameters == ("number",)


def test_what_depends_on_parameters_or_on_a_queue_is_planned_anew():
    queries = load_queries("postgresql")
    assert queries["sensors_list"].is_planned_anew
    assert queries["actions_next_due"].is_planned_anew
    assert not queries["measurements_before"].is_planned_anew
    assert not queries["sensor_by_number"].is_planned_anew
