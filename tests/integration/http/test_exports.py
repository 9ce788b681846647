"""Downloads: complete, exact, bounded, and cut where they fail."""

import asyncio
import csv
import gc
import gzip
import io
import json
import socket
import sys

import httpx
import pyarrow.parquet as pq
import pytest

from heliograph.errors import StoreUnavailableError
from heliograph.exchange import parquet
from heliograph.exchange.json_rows import from_json_line
from heliograph.http import exports
from heliograph.store.engine import Batch
from integration.http.conftest import ADMIN, established
from rows import NOON, heartbeat, log, measurement
from server import eventually

ROWS = 2_500


async def filled(here, device_id="pump-1", rows=ROWS, **members):
    """Register a device with rows; return its key's headers and its record."""
    headers = await here.device(device_id, **members)
    sensor = await here.services.store.sensors.find(device_id)
    await here.services.store.write(
        Batch(
            measurements=[
                measurement(sensor.number, NOON + number, {"t": number}) for number in range(rows)
            ],
            logs=[log(sensor.number, details='a, "b"\r\n')],
            heartbeats=[heartbeat(sensor.number, success=False)],
        )
    )
    return headers, sensor


async def test_csv_of_a_sensor_is_complete(site):
    async with site() as here:
        headers, sensor = await filled(here)
        answer = await here.http.get("/sensors/pump-1/export", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"] == (
            'attachment; filename="heliograph-pump-1-measurement.csv"'
        )
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert [json.loads(row["value"])["t"] for row in rows] == list(range(ROWS))
        assert {row["sensor_identifier"] for row in rows} == {sensor.identifier}
        assert rows[0]["timestamp"] == "2026-01-15T12:00:00.000000Z"


async def test_csv_for_a_spreadsheet_quotes_formulas_and_raw_csv_is_as_it_was_sent(site):
    async with site() as here:
        headers = await here.device("pump-1")
        logs = [
            {"severity": "info", "subject": subject, "timestamp": 1_700_000_000 + number}
            for number, subject in enumerate(("=1+1", "@SUM(A1)", "-5", "plain"))
        ]
        sent = await here.http.post("/sensors/pump-1/logs", json=logs, headers=headers)
        assert sent.json()["accepted"] == 4
        for query, subjects, quoted in (
            ("", ["=1+1", "@SUM(A1)", "-5", "plain"], [None] * 4),
            ("&spreadsheet=false", ["=1+1", "@SUM(A1)", "-5", "plain"], [None] * 4),
            (
                "&spreadsheet=true",
                ["'=1+1", "'@SUM(A1)", "-5", "plain"],
                ["subject"] * 2 + [""] * 2,
            ),
        ):
            network = here.services.registry.default_network
            for path, who in (("sensors/pump-1", headers), (f"networks/{network}", ADMIN)):
                url = f"/{path}/export?kind=log{query}"
                answer = await here.http.get(url, headers=who)
                rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
                assert [row["subject"] for row in rows] == subjects
                assert [row.get("quoted") for row in rows] == quoted


async def test_wide_a_column_is_an_attribute(site):
    async with site() as here:
        headers = {name: await here.device(name) for name in ("pump-1", "pump-2")}
        for name, value in (("pump-1", {"t": 21.5, "on": True}), ("pump-2", {"h": 40, "t": 3})):
            body = {"timestamp": 1_700_000_000, "value": value}
            path = f"/sensors/{name}/measurements"
            assert (await here.http.post(path, json=body, headers=headers[name])).status_code == 201
        network = here.services.registry.default_network
        one, all_of_them = [
            await here.http.get(f"/{path}/export?layout=wide", headers=who)
            for path, who in (
                ("sensors/pump-1", headers["pump-1"]),
                (f"networks/{network}", ADMIN),
            )
        ]
        assert one.headers["content-type"] == "text/csv; charset=utf-8"
        (row,) = csv.DictReader(io.StringIO(one.text, newline=""))
        assert "h" not in row
        assert (row["t"], row["on"], row["json"]) == ("21.5", "true", "")
        rows = list(csv.DictReader(io.StringIO(all_of_them.text, newline="")))
        assert [(row["t"], row["on"], row["h"]) for row in rows] == [
            ("21.5", "true", ""),
            ("3", "", "40"),
        ]
        answer = await here.http.get(
            f"/networks/{network}/export?layout=wide&format=parquet", headers=ADMIN
        )
        table = pq.read_table(io.BytesIO(answer.content))
        assert table["t"].to_pylist() == [21.5, 3.0]
        assert table["on"].to_pylist() == [True, None]
        none = await here.http.get("/sensors/pump-1/export?layout=wide&end=5", headers=ADMIN)
        assert none.text.count("\r\n") == 1


async def test_chosen_columns_are_all_that_a_table_has_in_their_order(site):
    async with site() as here:
        values = [
            {"t": 21.5, "on": True},
            {"t": 3, "timestamp": 7},
            {"note": '=1,"', "t": None},
            {},
        ]
        values += [21.5, {"a": {"b": [1]}}]
        for name in ("-pump", "pump-2"):
            headers = await here.device(name)
            body = [
                {"timestamp": 1_700_000_000 + at, "value": each} for at, each in enumerate(values)
            ]
            path = f"/sensors/{name}/measurements"
            assert (await here.http.post(path, json=body, headers=headers)).status_code == 201
        network = here.services.registry.default_network

        async def lines(path, columns, more=""):
            chosen = "".join(f"&column={name}" for name in columns)
            answer = await here.http.get(f"{path}?layout=wide{chosen}{more}", headers=ADMIN)
            assert answer.status_code == 200, answer.text
            return answer.text.split("\r\n")

        assert await lines("/sensors/pump-2/export", ["t", "timestamp"], "&end=1700000002") == [
            "t,timestamp",
            "21.5,2023-11-14T22:13:20.000000Z",
            "3,2023-11-14T22:13:21.000000Z",
            "",
        ]
        other = ["\\timestamp", "on", "value", "a.b", "note"]
        assert await lines("/sensors/pump-2/export", other) == [
            "\\timestamp,on,value,a.b,note",
            ",true,,,",
            "7,,,,",
            ',,,,"=1,"""',
            ",,,,",
            ",,21.5,,",
            ",,,[1],",
            "",
        ]
        both = await lines(f"/networks/{network}/export", ["device_id"])
        assert both == ["device_id", *6 * ["-pump"], *6 * ["pump-2"], ""]
        quoted = await lines("/sensors/-pump/export", ["device_id", "note"], "&spreadsheet=true")
        assert quoted[3] == """'-pump,"'=1,""\""""
        for query, told in {
            "layout=wide&column=timestmp": "did you mean `timestamp`?",
            "layout=wide&column=t&column=t": "`t` is named twice",
            "layout=wide&column=": "there is no column ``",
            "column=t": "columns are chosen of a wide table as csv",
            "layout=wide&format=parquet&column=t": "columns are chosen of a wide table as csv",
        }.items():
            answer = await here.http.get(f"/sensors/pump-2/export?{query}", headers=ADMIN)
            assert answer.status_code == 422, query
            assert told in answer.text, answer.text


async def test_columns_of_more_attributes_than_there_may_be_are_left_out(site, monkeypatch):
    monkeypatch.setattr("heliograph.exchange.pages.MOST_COLUMNS", 2)
    async with site() as here:
        headers = await here.device("pump-1")
        body = {"timestamp": 1_700_000_000, "value": {"a": 1, "b": 2, "c": 3}}
        await here.http.post("/sensors/pump-1/measurements", json=body, headers=headers)
        answer = await here.http.get("/sensors/pump-1/export?layout=wide", headers=headers)
        (row,) = csv.DictReader(io.StringIO(answer.text, newline=""))
        assert (row["a"], row["b"], row["json"]) == ("1", "2", '{"a":1,"b":2,"c":3}')
        assert "c" not in row


async def test_json_lines_of_a_network_have_the_kinds_asked_for(site):
    async with site() as here:
        await filled(here, rows=3)
        await filled(here, "pump-2", rows=3)
        elsewhere = await here.network("elsewhere")
        await filled(here, "pump-3", rows=3, network_identifier=elsewhere)
        network = here.services.registry.default_network
        answer = await here.http.get(
            f"/networks/{network}/export",
            params={"format": "jsonl", "kind": ["log", "measurement"], "end": "1768478400.000002"},
            headers=ADMIN,
        )
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [(line["device_id"], line["kind"]) for line in lines] == [
            (name, kind)
            for name in ("pump-1", "pump-2")
            for kind in ("log", "measurement", "measurement")
        ]


@pytest.mark.parametrize("kind", ["measurement", "log", "heartbeat"])
async def test_what_is_exported_and_sent_again_changes_nothing(site, kind):
    async with site() as here:
        headers = await here.device("pump-1")
        sent = {
            "measurement": [
                {"value": {"a": {"b": [1, 2.5, None, "ä\n"]}, "n": 1 << 62}, "revision": 3},
                {"value": 1e300, "timestamp": 1_700_000_000.123456},
                {"value": "x", "timestamp": 12.5},
            ],
            "log": [{"severity": "error", "subject": ' "', "details": ""}],
            "heartbeat": [{"revision": 1, "success": True, "rssi": -60}, {}],
        }[kind]
        path = f"/sensors/pump-1/{kind}s"
        assert (await here.http.post(path, json=sent, headers=headers)).json()["rejected"] == []
        parameters = {"format": "jsonl", "kind": kind}
        exported = await here.http.get("/sensors/pump-1/export", params=parameters, headers=headers)
        lines = exported.content.splitlines()
        assert len(lines) == len(sent)
        body = b"[%b]" % b",".join(from_json_line(line).text for line in lines)
        again = await here.http.post(
            path, content=body, headers={**headers, "content-type": "application/json"}
        )
        assert again.json() == {
            "accepted": 0,
            "duplicates": len(sent),
            "retimed": 0,
            "rejected": [],
        }


async def test_parquet_of_a_network_is_a_table(site, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_ROWS", 1_000)
    async with site() as here:
        for name in ("pump-1", "pump-2"):
            await filled(here, name)
        network = here.services.registry.default_network
        answer = await here.http.get(
            f"/networks/{network}/export",
            params={"format": "parquet"},
            headers={**ADMIN, "accept-encoding": "gzip"},
        )
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/vnd.apache.parquet"
        assert answer.headers["content-disposition"].endswith('-measurement.parquet"')
        assert "content-encoding" not in answer.headers
        file = pq.ParquetFile(io.BytesIO(answer.content))
        assert file.num_row_groups >= 4
        rows = file.read().to_pylist()
        assert [row["device_id"] for row in rows] == ["pump-1"] * ROWS + ["pump-2"] * ROWS
        assert [json.loads(row["value"])["t"] for row in rows] == [*range(ROWS)] * 2
        assert rows[0]["timestamp"].isoformat() == "2026-01-15T12:00:00+00:00"
        beats = await here.http.get(
            "/sensors/pump-1/export",
            params={"format": "parquet", "kind": "heartbeat"},
            headers=ADMIN,
        )
        assert pq.read_table(io.BytesIO(beats.content))["success"].to_pylist() == [False]
        none = await here.http.get(
            "/sensors/pump-1/export", params={"format": "parquet", "end": 5}, headers=ADMIN
        )
        assert pq.read_table(io.BytesIO(none.content)).num_rows == 0


async def test_parquet_without_its_package_is_refused_by_name(site, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "heliograph.exchange.parquet")
    async with site() as here:
        headers, _ = await filled(here, rows=1)
        answer = await here.http.get("/sensors/pump-1/export?format=parquet", headers=headers)
        assert answer.status_code == 422
        (detail,) = answer.json()["detail"]
        assert detail["loc"] == ["query", "format"]
        assert "heliograph[parquet]" in detail["msg"]
        assert here.exports.running == 0


async def test_gzip_on_request(site):
    async with site() as here:
        headers, _ = await filled(here)
        plain = await here.http.get(
            "/sensors/pump-1/export", headers={**headers, "accept-encoding": "gzip;q=0"}
        )
        assert "content-encoding" not in plain.headers
        encoded = await here.http.get(
            "/sensors/pump-1/export", headers={**headers, "accept-encoding": "br, gzip"}
        )
        assert encoded.headers["content-encoding"] == "gzip"
        assert encoded.content == plain.content
        archive = await here.http.get(
            "/sensors/pump-1/export", params={"compress": "gzip"}, headers=headers
        )
        assert archive.headers["content-type"] == "application/gzip"
        assert "content-encoding" not in archive.headers
        assert archive.headers["content-disposition"].endswith('.csv.gz"')
        assert gzip.decompress(archive.content) == plain.content


async def test_nothing_to_export_is_a_heading_alone(site):
    async with site() as here:
        headers = await here.device("pump-1")
        answer = await here.http.get("/sensors/pump-1/export?kind=log", headers=headers)
        assert answer.text.count("\r\n") == 1
        assert answer.text.startswith("sensor_identifier,device_id,timestamp,")
        network = here.services.registry.default_network
        answer = await here.http.get(f"/networks/{network}/export?format=jsonl", headers=ADMIN)
        assert (answer.status_code, answer.text) == (200, "")


async def test_bad_parameters_are_named(site):
    async with site() as here:
        headers = await here.device("pump-1")
        for query in [
            "format=xml",
            "kind=status",
            "kind=log&kind=measurement",
            "format=parquet&kind=log&kind=measurement",
            "format=parquet&compress=gzip",
            "start=x",
            "compress=zip",
            "spreadsheet=perhaps",
            "format=jsonl&spreadsheet=true",
            "layout=broad",
            "layout=wide&format=jsonl",
            "layout=wide&kind=log",
        ]:
            answer = await here.http.get(f"/sensors/pump-1/export?{query}", headers=headers)
            assert answer.status_code == 422, query
            assert answer.json()["code"] == "VALIDATION_FAILED", query


def delayed(here, after=1):
    """Have pages wait from the one with this number on; return what lets them go."""
    page, free, calls = here.services.store.exports.page, asyncio.Event(), []

    async def waiting(*args, **options):
        calls.append(args)
        if len(calls) > after:
            await free.wait()
        return await page(*args, **options)

    here.services.store.exports.page = waiting
    return free, calls


async def test_a_caller_has_a_bounded_number_at_once(site):
    async with site() as here:
        headers, _ = await filled(here)
        free, calls = delayed(here, after=2)
        waiting = [
            asyncio.create_task(here.http.get("/sensors/pump-1/export", headers=headers))
            for _ in range(exports.AT_ONCE_EACH)
        ]
        await eventually(lambda: len(calls) > 2)
        refused = await here.http.get("/sensors/pump-1/export", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
        assert int(refused.headers["retry-after"]) > 0
        free.set()
        assert [done.status_code for done in await asyncio.gather(*waiting)] == [200, 200]
        assert here.exports.running == 0
        again = await here.http.get("/sensors/pump-1/export", headers=headers)
        assert again.status_code == 200


async def test_a_database_that_is_away_is_a_503_before_the_first_row(site):
    async with site() as here:
        headers, _ = await filled(here, rows=1)

        async def away(*_, **__):
            raise StoreUnavailableError("away")

        here.services.store.exports.page = away
        answer = await here.http.get("/sensors/pump-1/export", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
        assert here.exports.running == 0


@pytest.mark.parametrize("compress", ["", "?compress=gzip", "?format=parquet"])
async def test_a_failure_on_the_way_is_seen_by_the_client(site, serving, compress):
    async with site() as here, serving(here.web) as port:
        headers, _ = await filled(here)
        page, calls = here.services.store.exports.page, []

        async def failing(*args, **options):
            calls.append(args)
            if len(calls) > 2:
                raise StoreUnavailableError("away")
            return await page(*args, **options)

        here.services.store.exports.page = failing
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get(f"/sensors/pump-1/export{compress}", headers=headers)
        await eventually(lambda: here.exports.running == 0)


@pytest.mark.parametrize(("moved", "is_whole"), [("pump-1", False), ("pump-2", True), (None, True)])
async def test_a_sensor_that_leaves_a_network_is_left_out_or_ends_its_export(
    site, serving, moved, is_whole
):
    """What has begun is not taken for all of it; what has not is not missed."""
    async with site() as here, serving(here.web) as port:
        networks = [await here.network(name) for name in ("garden", "elsewhere")]
        for name in ("pump-1", "pump-2"):
            await filled(here, name, rows=20, network_identifier=networks[0])
        free, calls = delayed(here)
        url = f"http://127.0.0.1:{port}"
        async with (
            httpx.AsyncClient(base_url=url, headers=ADMIN) as http,
            http.stream("GET", f"/networks/{networks[0]}/export") as answer,
        ):
            await eventually(lambda: len(calls) == 2)
            body = {"network_identifier": networks[1] if moved else networks[0]}
            change = await http.patch(f"/sensors/{moved or 'pump-1'}", json=body)
            assert change.status_code == 200, change.text
            free.set()
            if not is_whole:
                with pytest.raises(httpx.RemoteProtocolError):
                    await answer.aread()
                return
            text = (await answer.aread()).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        expected = [name for name in ("pump-1", "pump-2") if name != moved]
        assert [row["device_id"] for row in rows] == [name for name in expected for _ in range(20)]


async def test_a_client_that_leaves_ends_the_work(site, serving):
    async with site() as here, serving(here.web) as port:
        headers, _ = await filled(here)
        _, calls = delayed(here)
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
            http.stream("GET", "/sensors/pump-1/export", headers=headers) as answer,
        ):
            assert answer.status_code == 200
            await eventually(lambda: len(calls) == 2)
            assert here.exports.running
        await eventually(lambda: here.exports.running == 0)
        assert len(calls) == 2
        gc.collect()


async def test_a_slow_client_slows_the_reading_and_is_given_up(site, serving, monkeypatch):
    monkeypatch.setattr(exports, "STALL_SECONDS", 1.0)
    async with site() as here, serving(here.web) as port:
        headers, sensor = await filled(here, rows=1)
        large = [measurement(sensor.number, NOON + n, "x" * 100_000) for n in range(1, 400)]
        await here.services.store.write(Batch(measurements=large))
        free, calls = delayed(here, after=1 << 30)
        free.set()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", port))
            key = headers["x-api-key"]
            request = f"GET /sensors/pump-1/export HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n"
            await loop.sock_sendall(client, request.encode())
            await eventually(lambda: here.exports.running)
            await eventually(lambda: here.exports.running == 0)
            # Not only is nothing read for it any more: it keeps no connection.
            await eventually(lambda: established(port) == 0)
        # 40 MB were there to be read.
        assert len(calls) < 15
