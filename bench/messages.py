"""Benchmarks of `GET /messages` over 2 million measurements of sensors in ten networks.

Each query is called as often as all others, one call after the other; the figure is the slowest
query's 95th percentile. The ceiling is the one SELECT that it comes down to, written by hand and
over the stretch of ids that has to be looked at, on a connection of its own.
"""

import http.client
import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import urlencode

import psycopg

from bench.databases import Database
from bench.packets import identifier
from bench.result import Goal, Result, Sample, percentile
from bench.sides import ADMIN_KEY, Side, Workbench
from bench.starting_line import LoadError

QUERIES = Goal(100, "figure", "at most")
NETWORKS = 10
MOST_CALLS = 50
PASSWORD = "bench-password-93c1"  # noqa: S105 - of accounts that are gone with the benchmark
# Of the measurements, as many are packets of unknown devices and as many were rejected.
ONE_IN = 200
# Rows that a search looks at, at most.
SCANNED = 100_000
PAGE = "id, sensor, timestamp, value FROM measurement"


class Query(NamedTuple):
    """What is asked for and who asks: None: the administrator, else a user of so many networks.

    `bare` is the SELECT by hand, for which `{page}` and `{far}` are the ids above which there is
    about a page, and all that is looked at.
    """

    parameters: dict[str, Any]
    bare: str
    networks: int | None = None


NEWEST = f"SELECT {PAGE} WHERE id >= {{page}} ORDER BY id DESC LIMIT 100"
OF_NETWORK = (
    f"SELECT {PAGE} JOIN sensor ON number = sensor WHERE id >= {{far}}"
    " AND network_identifier = '{network}' ORDER BY id DESC LIMIT 10001"
)
LOOKED_THROUGH = "SELECT count(*) FROM measurement WHERE id >= {far} AND value LIKE '%{text}%'"


def _of_kind(table: str) -> str:
    return f"SELECT * FROM {table} ORDER BY id DESC LIMIT 100"


TABLE = {
    "newest": Query({}, NEWEST),
    "newest 1,000": Query({"limit": 1_000}, NEWEST.replace("LIMIT 100", "LIMIT 1000")),
    "of one network of ten": Query({}, OF_NETWORK, networks=1),
    "of all ten networks": Query({}, NEWEST, networks=NETWORKS),
    "of one sensor": Query(
        {"sensor": identifier(7)}, f"SELECT {PAGE} WHERE sensor = 7 ORDER BY timestamp DESC"
    ),
    "a key that all have": Query({"key": "temperature"}, NEWEST),
    "a value in one of 200": Query(
        {"key": "temperature", "value": "22.5"}, LOOKED_THROUGH.replace("{text}", "22.5")
    ),
    "a key that none has": Query({"key": "none"}, LOOKED_THROUGH.replace("{text}", '"none"')),
    "a value that none has, of one network": Query(
        {"key": "temperature", "value": "99"},
        LOOKED_THROUGH.replace("{text}", '"temperature":99'),
        networks=1,
    ),
    "processed": Query({"processed": "true"}, NEWEST),
    "not processed": Query({"processed": "false"}, "SELECT max(id) FROM observation"),
    "packets": Query({"kind": "packet"}, _of_kind("packet")),
    "rejected": Query({"kind": "rejected"}, _of_kind("rejected_message")),
    "rejected for a reason that none has": Query(
        {"reason": "NOT_A_NUMBER"}, "SELECT id FROM rejected_message WHERE reason = 'NOT_A_NUMBER'"
    ),
}


def queries(name: str, engine: str) -> Callable[[Workbench], Result]:
    """Return the benchmark of the slowest query's 95th percentile."""

    def run(bench: Workbench) -> Result:
        profile, calls = bench.scale.standard, min(bench.scale.samples, MOST_CALLS)
        with bench.database(engine, profile, bare=False) as database:
            networks = _arrange(database)
            with bench.serving(database) as side:
                callers = _callers(side, networks)
                before = side.process.cpu_seconds()
                found = {
                    query: _measured(side, wanted, callers[wanted.networks], calls)
                    for query, wanted in TABLE.items()
                }
                spent = side.process.cpu_seconds() - before
            bare = _by_hand(database, networks[0], calls)
        parts = {
            query: {
                "calls": len(times),
                "median": percentile(times, 0.5),
                "p95": percentile(times, 0.95),
                "longest": times[-1],
                "ceiling": percentile(bare[query], 0.5),
            }
            for query, times in found.items()
        }
        slowest = max(parts, key=lambda query: parts[query]["p95"])
        sample = Sample(parts[slowest]["p95"], spent / (calls * len(TABLE)) * 100_000)
        ceiling = Sample(percentile(bare[slowest], 0.95), None)
        return Result(name, "ms", QUERIES, [sample], [ceiling], parts)

    return run


def _arrange(database: Database) -> list[str]:
    """Put the sensors into ten networks, and add packets and what was rejected."""
    networks = [identifier(900_000 + number) for number in range(NETWORKS - 1)]
    default = database.text("SELECT identifier FROM network WHERE name = 'default'")
    every = f"WHERE sensor % {ONE_IN} = 0"
    statements = [
        *(
            f"INSERT INTO network (identifier, name, created_at) VALUES ('{each}', 'n-{each}', 0)"
            for each in networks
        ),
        *(
            f"UPDATE sensor SET network_identifier = '{each}' WHERE number % {NETWORKS} = {at}"
            for at, each in enumerate(networks)
        ),
        (
            "INSERT INTO packet SELECT id + 1, NULL, timestamp, fingerprint, receipt_timestamp,"
            f" 'unknown', NULL, 'admin', 'packets/unknown', value FROM measurement {every}"
        ),
        (
            "INSERT INTO rejected_message SELECT id + 2, receipt_timestamp, NULL, 'device:x',"
            " 'measurements/x', CAST('{}' AS blob), 2, 'MALFORMED_JSON', 'unexpected end', NULL"
            f" FROM measurement {every}"
        ),
    ]
    if database.engine == "sqlite":
        with closing(sqlite3.connect(database.address, timeout=30)) as connection, connection:
            for statement in statements:
                connection.execute(statement)
        return [*networks, default]
    with psycopg.connect(database.address, autocommit=True) as server:
        for statement in statements:
            server.execute(statement.replace("CAST('{}' AS blob)", "'{}'::bytea").encode())
        server.execute("ANALYZE")
    return [*networks, default]


def _callers(side: Side, networks: Sequence[str]) -> dict[int | None, dict[str, str]]:
    """Return the headers of the administrator, and of users who read one network and all."""
    admin = {"X-API-Key": ADMIN_KEY}
    callers: dict[int | None, dict[str, str]] = {None: admin}
    with closing(http.client.HTTPConnection("127.0.0.1", side.http_port, timeout=60)) as link:
        for count in (1, NETWORKS):
            account = {"username": f"reader-{count}", "password": PASSWORD}
            _call(link, "POST", "/users", admin, account)
            for network in networks[:count]:
                member = f"/networks/{network}/members/reader-{count}"
                _call(link, "PUT", member, admin, {"role": "viewer"})
            token = json.loads(_call(link, "POST", "/authentication", {}, account))["access_token"]
            callers[count] = {"Authorization": f"Bearer {token}"}
    return callers


def _measured(side: Side, wanted: Query, headers: dict[str, str], calls: int) -> list[float]:
    """Return the milliseconds of the calls, the shortest first."""
    path = f"/messages?{urlencode({'start_time': 0, **wanted.parameters})}"
    times: list[float] = []
    with closing(http.client.HTTPConnection("127.0.0.1", side.http_port, timeout=60)) as link:
        _call(link, "GET", path, headers)
        for _ in range(calls):
            began = time.perf_counter()
            _call(link, "GET", path, headers)
            times.append((time.perf_counter() - began) * 1_000)
    return sorted(times)


def _call(
    link: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: dict[str, str],
    body: dict[str, Any] | None = None,
) -> bytes:
    content = None if body is None else json.dumps(body)
    kind = {} if body is None else {"Content-Type": "application/json"}
    link.request(method, f"/api/v1{path}", content, headers | kind)
    answer = link.getresponse()
    text = answer.read()
    if answer.status not in (200, 201):
        raise LoadError(f"{method} {path} was answered {answer.status}: {text[:400]!r}")
    return text


def _by_hand(database: Database, network: str, calls: int) -> dict[str, list[float]]:
    """Return the milliseconds of each SELECT, the shortest first."""
    page, far = (_since(database, rows) for rows in (1_000, SCANNED))
    connection: Any
    if database.engine == "sqlite":
        connection = sqlite3.connect(database.address, timeout=30, isolation_level=None)
    else:
        connection = psycopg.connect(database.address, connect_timeout=10, autocommit=True)
    found: dict[str, list[float]] = {}
    with closing(connection):
        for name, query in TABLE.items():
            sql = query.bare.format(page=page, far=far, network=network)
            for _ in range(calls + 1):
                began = time.perf_counter()
                connection.execute(sql).fetchall()
                found.setdefault(name, []).append((time.perf_counter() - began) * 1_000)
    # The first has read the pages in.
    return {name: sorted(times[1:]) for name, times in found.items()}


def _since(database: Database, rows: int) -> int:
    """Return the ingest id from which on there are so many measurements."""
    newest = int(database.text("SELECT max(id) FROM measurement"))
    return newest - (rows * database.profile.step // 1_000 << 21)
