"""Sending to a server that does not take a body at once, or not as a whole."""

import asyncio
import itertools
import json

import httpx
import pytest

from heliograph.cli.transfer import sending
from heliograph.exchange.elements import Element
from heliograph.model.records import Kind

SENSOR = {"sensor_identifier": "9b2e8a52-6b8e-4d86-9c9f-3e6a2d3c1b00", "is_active": True}


@pytest.fixture
def slept(monkeypatch):
    """The seconds of every wait, none of which takes any time."""
    seconds: list[float] = []
    sleep = asyncio.sleep

    async def at_once(delay):
        seconds.append(delay)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", at_once)
    return seconds


async def sent(count, refuse):
    """Send elements to a server that answers a POST with what `refuse` returns of it, if any."""
    posts = itertools.count()

    def serve(request):
        if request.method == "GET":
            return httpx.Response(200, json=SENSOR)
        readings = json.loads(request.content)["readings"]
        stored = {"accepted": len(readings), "duplicates": 0, "rejected": []}
        return refuse(next(posts), len(readings)) or httpx.Response(201, json=stored)

    transport = httpx.MockTransport(serve)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        sender = sending.Sender(client, "pump-1", {}, print)
        elements = [Element(Kind.MEASUREMENT, (), b'{"value":1}')] * count
        return await sender.send(elements, range(1, count + 1)), next(posts)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_is_asked_again_when_it_says(slept, status):
    refusal = httpx.Response(status, headers={"Retry-After": "30"})
    result, posts = await sent(5, lambda number, _: refusal if number == 0 else None)
    assert (result, posts) == (sending.Sent(5), 2)
    assert 29 < slept[-1] <= 30


async def test_no_body_goes_to_a_server_that_wants_none(slept):
    count = 3 * sending.AT_ONCE * sending.BODY_ELEMENTS
    refusal = httpx.Response(429, headers={"Retry-After": "30"})
    result, posts = await sent(count, lambda number, _: refusal if number == 0 else None)
    assert (result.accepted, posts) == (count, 3 * sending.AT_ONCE + 1)
    # Time does not pass here: whatever was not on its way yet has waited for the whole of it.
    assert sum(29 < seconds <= 30 for seconds in slept) >= 2 * sending.AT_ONCE


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [("Mon, 30 Nov 2026 20:00:00 GMT", 0, 1), ("-5", 0, 1), ("99999999", 299, 300)],
)
async def test_what_is_asked_for_has_bounds(slept, asked, least, most):
    refusal = httpx.Response(503, headers={"Retry-After": asked})
    result, _ = await sent(1, lambda number, _: refusal if number == 0 else None)
    assert result == sending.Sent(1)
    assert least <= max(slept) <= most


async def test_a_body_that_is_too_large_is_sent_in_halves(slept):
    result, posts = await sent(8, lambda _, size: httpx.Response(413) if size > 2 else None)
    assert (result, posts) == (sending.Sent(8), 7)
    assert not slept
