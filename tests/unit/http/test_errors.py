import json
from typing import Annotated

import httpx
import pytest
import structlog
from fastapi import FastAPI, Query
from pydantic import BaseModel
from structlog.testing import LogCapture, capture_logs

from heliograph.errors import (
    ErrorCode,
    HeliographError,
    RejectionReason,
    StoreUnavailableError,
)
from heliograph.http import errors
from heliograph.http.access import Limits
from heliograph.http.answers import Answering
from heliograph.http.front import Front, Table
from heliograph.http.paths import PREFIX
from heliograph.http.schemas import Text
from heliograph.http.traffic import Traffic
from heliograph.ingest.strict_json import Fault
from heliograph.store.engine import Lineage


class Thing(BaseModel):
    name: Text


def application():
    app = FastAPI(openapi_url=None)
    errors.install(app)

    @app.get(f"{PREFIX}/number")
    async def number(value: Annotated[int, Query(le=10)]):
        return value

    @app.get(f"{PREFIX}/texts")
    async def texts(
        name: Annotated[Text | None, Query(min_length=1, max_length=3)] = None,
        several: Annotated[list[str] | None, Query(max_length=1)] = None,
        share: float | None = None,
    ):
        return [name, several, share]

    @app.post(f"{PREFIX}/thing")
    async def thing(thing: Thing):
        return thing

    @app.get(f"{PREFIX}/full")
    async def full():
        raise HeliographError(ErrorCode.QUEUE_FULL, "Full", retry_after=7)

    @app.get(f"{PREFIX}/away")
    async def away():
        raise StoreUnavailableError

    @app.get(f"{PREFIX}/broken")
    async def broken():
        return 1 / 0

    limits = Limits(read=0, write=0, ingest=0)
    return Front(Table(), app, None, Lineage(), Traffic(), Answering(), limits)


def client():
    transport = httpx.ASGITransport(application())
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def test_every_code_has_a_status():
    assert set(errors.STATUS) == set(ErrorCode)


@pytest.mark.parametrize("reason", list(RejectionReason))
def test_no_rejection_is_a_server_error(reason):
    answer = errors.rejection(Fault(None, reason, "x"))
    assert 400 <= answer.status < 500
    assert json.loads(answer.content) == {"detail": "x", "code": reason.value}


async def test_validation_lists_what_is_wrong_and_nothing_else():
    async with client() as http:
        response = await http.get("/number", params={"value": 11})
    assert response.status_code == 422
    body = response.json()
    assert body["code"] == "VALIDATION_FAILED"
    assert [set(problem) for problem in body["detail"]] == [{"loc", "type", "msg"}]
    assert body["detail"][0]["loc"] == ["query", "value"]


@pytest.mark.parametrize(
    ("route", "query", "message"),
    [
        ("number", "value=", "Input should be a whole number"),
        ("number", "value=x", "Input should be a whole number"),
        ("texts", "name=", "Input should not be empty"),
        ("texts", "name=abcd", "Input should be text of at most 3 characters, not of 4"),
        ("texts", "several=a&several=b", "Input should be an array of at most 1 element, not of 2"),
        ("texts", "share=much", "Input should be a number"),
    ],
)
async def test_what_is_wrong_is_said_in_words_for_people(route, query, message):
    async with client() as http:
        response = await http.get(f"/{route}?{query}")
    assert [problem["msg"] for problem in response.json()["detail"]] == [message]


@pytest.mark.parametrize("body", [b"{", b'{"name": \xff}', b"[" * 100_000])
async def test_malformed_json_is_a_400(body):
    async with client() as http:
        response = await http.post(
            "/thing", content=body, headers={"content-type": "application/json"}
        )
    assert response.status_code == 400
    assert response.json()["code"] == "MALFORMED_JSON"


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "\\ud800"}',
        b'{"name": "\\u0000"}',
        b'{"name": NaN}',
        b'{"name": 1e999}',
    ],
)
async def test_what_cannot_be_encoded_again_is_no_server_error(body):
    async with client() as http:
        response = await http.post(
            "/thing", content=body, headers={"content-type": "application/json"}
        )
    assert response.status_code == 422


async def test_unknown_routes_and_methods_have_codes():
    async with client() as http:
        unknown = await http.get("/nothing")
        method = await http.delete("/number")
    assert (unknown.status_code, unknown.json()) == (
        404,
        {"detail": "Route not found", "code": "NOT_FOUND"},
    )
    assert (method.status_code, method.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert method.headers["allow"] == "GET"


async def test_unavailability_says_when_to_come_back():
    async with client() as http:
        full, away = await http.get("/full"), await http.get("/away")
    assert (full.status_code, full.headers["retry-after"]) == (503, "7")
    assert full.json() == {"detail": "Full", "code": "QUEUE_FULL"}
    assert (away.status_code, away.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
    assert int(away.headers["retry-after"]) > 0


@pytest.mark.usefixtures("restored_logging")
async def test_a_defect_is_a_500_without_its_secrets():
    capture = LogCapture()
    structlog.configure(processors=[structlog.processors.format_exc_info, capture])
    async with client() as http:
        response = await http.get("/broken")
    assert response.status_code == 500
    assert response.json() == {"detail": "Internal server error", "code": "INTERNAL_ERROR"}
    told = [entry["exception"] for entry in capture.entries if entry["log_level"] == "error"]
    assert ["ZeroDivisionError" in each for each in told] == [True]


async def test_an_outage_is_told_once_and_its_requests_are_counted(monkeypatch):
    moment = [1_000.0]
    monkeypatch.setattr(errors, "_outage", errors.Outage(lambda: moment[0]))
    with capture_logs() as logs:
        async with client() as http:
            for _ in range(5):
                assert (await http.get("/away")).status_code == 503
            assert [line["requests"] for line in logs if "requests" in line] == [1]
            moment[0] += errors.OUTAGE_SECONDS
            await http.get("/away")
    told = [line for line in logs if line["event"] == "database unavailable"]
    assert [line["requests"] for line in told] == [1, 5]
    assert {line["log_level"] for line in told} == {"warning"}
