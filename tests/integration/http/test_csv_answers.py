"""Aggregates and charts as CSV, for spreadsheets and scripts that read tables."""

import csv
import io

import pytest

from heliograph.http.csv_answers import MEDIA_TYPE, prefers

START = 1_700_000_000
RANGE = f"start={START}&end={START + 7_200}"
AGGREGATES = f"/sensors/pump-1/aggregates?bucket=1h&{RANGE}"


async def filled(here) -> dict[str, str]:
    key = await here.device("pump-1")
    elements = [
        {"timestamp": START + n * 100, "value": {"t": n / 2, "a, b": n, "x": "y"}}
        for n in range(72)
    ]
    response = await here.http.post("/sensors/pump-1/measurements", json=elements, headers=key)
    assert response.json()["accepted"] == 72
    logs = [
        {"severity": "error", "subject": 'no "water", again', "timestamp": START + n}
        for n in range(3)
    ]
    await here.http.post("/sensors/pump-1/logs", json=logs, headers=key)
    return key


async def table_of(here, path, key, **headers) -> list[dict[str, str]]:
    answer = await here.http.get(path, headers={**key, **headers})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def shown(value) -> str:
    return "" if value is None else str(value)


@pytest.mark.parametrize("more", ["", "&fill=null", "&function=max&function=avg", "&attribute=t"])
async def test_aggregates_as_csv_are_those_of_json(site, more):
    async with site() as here:
        key = await filled(here)
        path = f"{AGGREGATES}{more}"
        answer = await here.http.get(path, headers=key)
        assert answer.headers["content-type"] == "application/json"
        rows = await table_of(here, f"{path}&format=csv", key)
        assert rows == [
            {
                "start": bucket["start"],
                "attribute": name,
                **{function: shown(bucket[function]) for function in bucket if function != "start"},
            }
            for name, buckets in answer.json().items()
            for bucket in buckets
        ]
        assert len(rows) > 1


async def test_accept_asks_for_csv_and_format_goes_before(site):
    async with site() as here:
        key = await filled(here)
        rows = await table_of(here, AGGREGATES, key, accept="text/csv")
        assert {row["attribute"] for row in rows} == {"t", "a, b"}
        for path, accept in ((AGGREGATES, "*/*"), (f"{AGGREGATES}&format=json", "text/csv")):
            answer = await here.http.get(path, headers={**key, "accept": accept})
            assert answer.headers["content-type"] == "application/json"
        wrong = await here.http.get(f"{AGGREGATES}&format=xml", headers=key)
        assert (wrong.status_code, wrong.json()["detail"][0]["loc"]) == (422, ["query", "format"])
        # An error is what it is everywhere.
        wrong = await here.http.get(
            f"{AGGREGATES}&tz=Nowhere", headers={**key, "accept": "text/csv"}
        )
        assert wrong.json()["code"] == "VALIDATION_FAILED"


async def test_a_devices_aggregate_as_csv_is_that_of_json(site):
    async with site() as here:
        key = await filled(here)
        for bucket in ("", "&bucket=1h"):
            path = f"/devices/pump-1/aggregate?{RANGE}{bucket}"
            found = (await here.http.get(path, headers=key)).json()
            rows = await table_of(here, f"{path}&format=csv", key)
            assert rows == [
                {
                    **{name: each[name] for name in ("device_id", "start", "end")},
                    "attribute": name,
                    **{function: str(value) for function, value in metric.items()},
                }
                for each in (found if bucket else [found])
                for name, metric in each["metrics"].items()
            ]


async def test_log_aggregates_as_csv_are_those_of_json(site):
    async with site() as here:
        key = await filled(here)
        path = "/sensors/pump-1/logs/aggregates"
        (entry,) = (await here.http.get(path, headers=key)).json()
        assert entry["count"] == 3
        rows = await table_of(here, path, key, accept="text/csv")
        assert rows == [{name: shown(value) for name, value in entry.items()}]


@pytest.mark.parametrize("path", ["/sensors/pump-1/measurements", "/devices/pump-1/history"])
async def test_points_of_a_chart_as_csv(site, path):
    async with site() as here:
        key = await filled(here)
        asked = f"{path}?attribute=t&points=10&{RANGE}"
        entries = (await here.http.get(asked, headers=key)).json()
        for more, headers in (("&format=csv", {}), ("", {"accept": "text/csv"})):
            rows = await table_of(here, f"{asked}{more}", key, **headers)
            assert len(rows) == len(entries) == 10
            assert list(rows[0]) == ["timestamp", "t"]
            values = [entry.get("measurement", entry.get("metrics"))["t"] for entry in entries]
            assert [float(row["t"]) for row in rows] == values
            assert all(row["timestamp"].endswith("Z") for row in rows)
        page = await here.http.get(path, headers={**key, "accept": "text/csv"})
        assert page.headers["content-type"] == "application/json"
        wrong = await here.http.get(f"{path}?format=csv", headers=key)
        assert wrong.status_code == 422
        assert "export" in wrong.json()["detail"][0]["msg"]


async def test_a_table_for_a_spreadsheet_has_no_formula(site):
    async with site() as here:
        key = await here.device("pump-1")
        reading = {"timestamp": START, "value": {"=1+1": -1.5, "t": 2}}
        log = {"timestamp": START, "severity": "error", "subject": "@now"}
        await here.http.post("/sensors/pump-1/measurements", json=[reading], headers=key)
        await here.http.post("/sensors/pump-1/logs", json=[log], headers=key)
        asked = "format=csv&spreadsheet=true"
        found = await table_of(here, f"{AGGREGATES}&function=min&{asked}", key)
        cells = [(row["attribute"], row["min"], row["quoted"]) for row in found]
        assert cells == [("'=1+1", "-1.5", "attribute"), ("t", "2", "")]
        found = await table_of(here, f"/devices/pump-1/aggregate?{RANGE}&{asked}", key)
        assert [row["attribute"] for row in found] == ["'=1+1", "t"]
        (row,) = await table_of(here, f"/sensors/pump-1/logs/aggregates?{asked}", key)
        assert (row["subject"], row["quoted"]) == ("'@now", "subject")
        chart = f"/sensors/pump-1/measurements?attribute=%3D1%2B1&points=5&{RANGE}"
        (row,) = await table_of(here, f"{chart}&{asked}", key)
        assert (row["'=1+1"], row["quoted"]) == ("-1.5", "")
        plain = await table_of(here, f"{AGGREGATES}&format=csv", key)
        assert plain[0]["attribute"] == "=1+1"
        for path in (f"{AGGREGATES}&", "/sensors/pump-1/measurements?"):
            wrong = await here.http.get(f"{path}spreadsheet=true", headers=key)
            assert wrong.status_code == 422
            assert wrong.json()["detail"][0]["loc"] == ["query", "spreadsheet"]


async def test_cells_are_as_in_an_export(site):
    async with site() as here:
        key = await here.device("pump-1")
        values = [True, {"value": False}, 1e22]
        elements = [{"timestamp": START + n, "value": value} for n, value in enumerate(values)]
        await here.http.post("/sensors/pump-1/measurements", json=elements, headers=key)
        path = f"/sensors/pump-1/measurements?attribute=value&points=10&format=csv&{RANGE}"
        rows = await table_of(here, path, key)
        assert [row["value"] for row in rows] == ["true", "false", "1e+22"]


@pytest.mark.parametrize(
    ("accept", "is_preferred"),
    [
        ("", False),
        ("*/*", False),
        ("text/csv", True),
        ("Text/CSV; charset=utf-8", True),
        ("text/csv, */*;q=0.1", True),
        ("text/csv,*/*", True),
        ("text/csv;q=0", False),
        ("text/csv;q=0.5, application/json", False),
        ("application/json, text/csv", False),
        ("text/html,application/xml;q=0.9,*/*;q=0.8", False),
        ("text/csv;q=x", False),
    ],
)
def test_which_accept_headers_prefer_csv(accept, is_preferred):
    assert prefers(MEDIA_TYPE, accept) is is_preferred
