"""Answers whose size depends on what is stored: bounded each, and all together."""

import asyncio
import contextlib
import re
from unittest import mock

import httpx
import pytest

from heliograph.http import answers, connections
from heliograph.http import configurations as web_configurations
from heliograph.store import audit as audit_module
from heliograph.store import configurations as configurations_module
from heliograph.store import measurements as measurements_module
from heliograph.store import pages as pages_module
from heliograph.store.engine import Batch
from integration.http.conftest import ADMIN, narrow
from rows import NOON, heartbeat, log, measurement

LARGE, FITTING = 20_000, 10
WIDE = "start=2020-01-01T00:00:00Z"
PAGES = {
    "measurements": "/sensors/pump-1/measurements?limit=1000&direction=next",
    "measurements through FastAPI": "/sensors/pump-1/measurements?limit=1_000&direction=next",
    "one attribute": "/sensors/pump-1/measurements?limit=1000&direction=next&attribute=t",
    "logs": "/sensors/pump-1/logs?limit=1000&direction=next",
    "heartbeats": "/sensors/pump-1/heartbeats?limit=1000&direction=next",
    "history": f"/devices/pump-1/history?limit=10000&{WIDE}",
}


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(pages_module, "LARGEST_PAGE", FITTING * (LARGE + 300))


async def filled(here, count, *, per_time=1):
    own = await here.device("pump-1")
    sensor = (await here.services.store.sensors.find("pump-1")).number
    text = "x" * LARGE
    times = [NOON + at // per_time * 1_000_000 for at in range(count)]
    beats = [heartbeat(sensor, time, fingerprint=at) for at, time in enumerate(times)]
    batch = Batch(
        measurements=[
            measurement(sensor, time, {"n": at, "t": text}, fingerprint=at)
            for at, time in enumerate(times)
        ],
        logs=[log(sensor, time, text, fingerprint=at) for at, time in enumerate(times)],
        heartbeats=[(*row[:8], f'{{"x":"{text}"}}') for row in beats],
        attributes=[(sensor, "n"), (sensor, "t")],
    )
    await here.services.store.write(batch)
    return own


def link(response, rel="next"):
    found = re.search(rf'<([^>]+)>; rel="{rel}"', response.headers.get("link", ""))
    return found and found[1]


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES.keys())
async def test_every_page_ends_early_by_bytes_and_its_link_leads_on(site, path):
    async with site() as here:
        await filled(here, 35, per_time=3)
        counts = []
        while path:
            response = await here.http.get(path, headers=ADMIN)
            assert response.status_code == 200, response.text
            assert len(response.content) <= pages_module.LARGEST_PAGE
            assert "x-page-truncated" not in response.headers
            counts.append(len(response.json()))
            path = link(response)
        assert counts == [9, 9, 9, 8] or counts == [8, 9, 9, 9]


async def test_one_time_that_is_too_large_is_divided_which_is_said(site):
    async with site() as here:
        await filled(here, 25, per_time=25)
        path, said, seen = PAGES["measurements"], [], []
        while path:
            response = await here.http.get(path, headers=ADMIN)
            said.append(response.headers.get("x-page-truncated"))
            seen += [entry["measurement"]["n"] for entry in response.json()]
            path = link(response)
        assert said == ["true", "true", None]
        assert seen == list(range(25))


@pytest.fixture
def few_at_once(monkeypatch):
    monkeypatch.setattr(pages_module, "LARGEST_PAGE", 12 << 20)
    monkeypatch.setattr(answers.Answering.__init__, "__defaults__", (16 << 20,))


@pytest.mark.usefixtures("few_at_once")
async def test_large_answers_together_are_bounded_until_they_are_taken(site, serving):
    path = PAGES["history"]
    async with site() as here, serving(here.web) as port, asyncio.timeout(60):
        await filled(here, 500)
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, headers=ADMIN, timeout=60) as http:
            reader, writer = await narrow(port, path)
            with contextlib.closing(writer):
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
                refused = await http.get(path)
                assert refused.status_code == 503
                assert refused.json()["code"] == "TOO_MANY_LARGE_ANSWERS"
                assert refused.headers["retry-after"] == "5"
                # What is small needs no room.
                small = await http.get("/sensors/pump-1/measurements?limit=1")
                assert small.status_code == 200
                metrics = (await http.get("/metrics")).text
                assert "heliograph_http_answers_refused_total 1.0" in metrics
            # One that goes gives its room back.
            response = refused
            while response.status_code == 503:
                response = await http.get(path)
            assert len(response.json()) == 500
            assert "heliograph_http_answering_bytes 0.0" in (await http.get("/metrics")).text


@pytest.mark.usefixtures("few_at_once")
async def test_who_takes_an_answer_slowly_makes_room_for_others(site, serving, monkeypatch):
    """Else a few such clients, who take a byte now and then, would keep everybody else out."""
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 1_000.0)
    path = PAGES["history"]
    async with site() as here, serving(here.web) as port, asyncio.timeout(30):
        await filled(here, 500)
        reader, writer = await narrow(port, path)
        with contextlib.closing(writer):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=url, headers=ADMIN, timeout=60) as http:
                assert (await http.get(path)).status_code == 503
                monkeypatch.setattr(answers, "PATIENCE_SECONDS", 0.0)
                assert len((await http.get(path)).json()) == 500
                metrics = (await http.get("/metrics")).text
            assert "heliograph_http_answers_cut_off_total 1.0" in metrics
            assert "heliograph_http_answering_bytes 0.0" in metrics
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(12 << 20)


def paced(monkeypatch, seconds):
    """Give each caller what comes to one large page of ten in so many seconds, and one at first."""
    size = FITTING * LARGE
    monkeypatch.setattr(answers, "CALLER_BYTES_PER_SECOND", size / seconds)
    monkeypatch.setattr(answers, "CALLER_BURST_SECONDS", seconds)


@pytest.mark.parametrize(
    "path", [PAGES["history"], PAGES["measurements"]], ids=["fastapi", "quick"]
)
async def test_a_caller_who_has_had_many_large_pages_waits_for_the_next(site, monkeypatch, path):
    """One after the other, as many as ask for one; others, and administrators, wait for nobody."""
    async with site() as here, asyncio.timeout(60):
        mine = await filled(here, FITTING - 1)
        own = await here.device("pump-2")
        loop = asyncio.get_running_loop()

        async def read(headers=mine):
            response = await here.http.get(path, headers=headers)
            assert response.status_code == 200, response.text
            return loop.time()

        paced(monkeypatch, 0.2)
        await read()  # its key is known from now on
        began = loop.time()
        await read()
        waiting = [asyncio.create_task(read()) for _ in range(3)]
        for headers in (ADMIN, ADMIN, ADMIN):
            await read(headers)
        small = await here.http.get("/devices/pump-2/history", headers=own)
        assert small.status_code == 200
        # Nine tenths of a page each, of which there was one at first.
        for number, end in enumerate(sorted(await asyncio.gather(*waiting)), 1):
            assert end - began >= number * 0.18 - 0.1


def test_what_comes_at_first_does_not_depend_on_how_long_the_machine_runs(monkeypatch):
    monkeypatch.setattr(answers, "CALLER_BURST_SECONDS", 1_000.0)
    had = answers._Had()
    had.take(answers.CALLER_BYTES_PER_SECOND, 5.0)
    assert had.until == 5.0 - 1_000.0 + 1.0


async def test_who_would_wait_for_long_is_refused(site, monkeypatch):
    path = PAGES["history"]
    async with site() as here:
        mine = await filled(here, FITTING - 1)
        paced(monkeypatch, 1_000.0)
        statuses = [(await here.http.get(path, headers=mine)).status_code for _ in range(2)]
        refused = await here.http.get(path, headers=mine)
        assert statuses == [200, 200]
        assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
        assert 700 < int(refused.headers["retry-after"]) <= 1_000
        # It is its own account alone.
        assert (await here.http.get(path, headers=ADMIN)).status_code == 200


async def test_who_has_had_many_large_pages_may_change_something_at_once(site, monkeypatch):
    async with site() as here:
        mine = await filled(here, FITTING - 1)
        paced(monkeypatch, 1_000.0)
        for status in (200, 200, 429):
            assert (await here.http.get(PAGES["history"], headers=mine)).status_code == status
        # That it is not a device's to change is another matter.
        changed = await here.http.patch("/devices/pump-1", json={"name": "x"}, headers=mine)
        assert changed.status_code == 403


async def test_small_answers_behind_large_ones_do_not_wait_as_long_as_large_ones(monkeypatch):
    """How large one is is known as soon as it is answered: the next one looks again then."""
    monkeypatch.setattr(answers, "CALLER_BYTES_PER_SECOND", 1 << 20)
    monkeypatch.setattr(answers, "CALLER_BURST_SECONDS", 4.9)
    answering = answers.Answering()
    first = answers.HeldAnswer(answering)
    await first.charge("ada")
    first.at_least(5 << 20)
    first.release()

    async def small():
        held = answers.HeldAnswer(answering)
        await held.charge("ada")
        await asyncio.sleep(0.01)  # as long as the database takes
        held.release()

    async with asyncio.timeout(4):
        await asyncio.gather(*(small() for _ in range(10)))


async def test_an_answer_that_is_cut_off_counts_as_had(monkeypatch):
    """Else whoever takes his answers slowly would have them for nothing."""
    monkeypatch.setattr(answers, "PATIENCE_SECONDS", 0.0)
    answering = answers.Answering(10 << 20)
    slow, other = (answers.HeldAnswer(answering) for _ in range(2))
    slow.connection = mock.Mock()
    await slow.charge("ada")
    slow.at_least(8 << 20)
    other.at_least(8 << 20)
    slow.connection.abort.assert_called_once_with()
    slow.release()
    assert answering.callers["ada"].size == 8 << 20
    assert answering.bytes == 8 << 20
    other.release()


def test_what_was_reserved_in_vain_is_given_back():
    answering = answers.Answering(4 << 20)
    held = answers.HeldAnswer(answering)
    held.hold(4 << 20)
    held.hold(1 << 20)
    assert answering.bytes == held.bytes == 1 << 20
    answers.HeldAnswer(answering).hold(3 << 20)
    held.hold(100)
    assert held.bytes == 0
    assert answering.bytes == 3 << 20


async def test_callers_who_have_had_nothing_for_a_while_are_forgotten(monkeypatch):
    monkeypatch.setattr(answers, "MAXIMUM_CALLERS", 5)
    answering = answers.Answering()
    for caller in range(20):
        held = answers.HeldAnswer(answering)
        await held.charge(caller)
        held.at_least(1 << 20)
        held.release()
    assert len(answering.callers) <= 5


async def test_configurations_end_early_by_bytes_and_the_link_leads_on(site, monkeypatch):
    monkeypatch.setattr(configurations_module, "LARGEST_PAGE", 3 * LARGE + LARGE // 2)
    monkeypatch.setattr(pages_module, "CHUNK_SIZE", 2 * LARGE)
    async with site() as here:
        await here.device("pump-1")
        path = "/sensors/pump-1/configurations"
        for at in range(8):
            body = {"configuration": {"n": at, "text": "x" * LARGE}}
            assert (await here.http.post(path, json=body, headers=ADMIN)).status_code == 201
        for direction, expected in (
            ("next", [[0, 1, 2], [3, 4, 5], [6, 7]]),
            ("previous", [[5, 6, 7], [2, 3, 4], [0, 1]]),
        ):
            at, found = f"{path}?direction={direction}", []
            while at:
                response = await here.http.get(at, headers=ADMIN)
                found.append([entry["revision"] for entry in response.json()])
                at = link(response, direction)
            assert found == expected


async def test_newest_values_that_are_too_much_say_so(site, monkeypatch):
    monkeypatch.setattr(measurements_module, "LARGEST_LATEST", 3 * LARGE)
    monkeypatch.setattr(pages_module, "ROWS_AT_FIRST", 2)
    async with site() as here:
        key = await here.device("pump-1")
        for at in range(20):
            value = {f"a{at}": "x" * LARGE}
            await here.http.post("/sensors/pump-1/measurements", json={"value": value}, headers=key)
        network = (await here.http.get("/networks", headers=ADMIN)).json()[0]["network_identifier"]
        for path in ("/sensors/pump-1/latest", f"/networks/{network}/latest"):
            response = await here.http.get(path, headers=ADMIN)
            assert response.status_code == 200
            assert response.headers["x-page-truncated"] == "true"
            found = response.json()
            found = found[0] if isinstance(found, list) else found
            assert 3 <= len(found["attributes"]) < 20
            # What came last is there.
            assert "a19" in found["attributes"]


async def test_a_large_page_leads_back_to_what_is_before_it(site, monkeypatch):
    monkeypatch.setattr(pages_module, "LARGEST_PAGE", 1 << 20)
    async with site() as here:
        await filled(here, 90)
        found, path = [], PAGES["measurements"]
        while path:
            response = await here.http.get(path, headers=ADMIN)
            found.append([entry["measurement"]["n"] for entry in response.json()])
            path, last = link(response), response
        assert len(found) == 2
        back = await here.http.get(link(last, "previous"), headers=ADMIN)
        assert len(back.content) > answers.PIECE_BYTES
        numbers = [entry["measurement"]["n"] for entry in back.json()]
        assert numbers == found[0][-len(numbers) :]
        again = await here.http.get(link(back, "next"), headers=ADMIN)
        assert [entry["measurement"]["n"] for entry in again.json()] == found[1]


async def test_the_audit_log_ends_early_by_bytes_and_its_link_leads_on(site, monkeypatch):
    async with site() as here:
        await here.device("pump-1")
        for at in range(12):
            change = {"name": f"{at}" + "x" * 250}
            await here.http.patch("/devices/pump-1", json=change, headers=ADMIN)
        monkeypatch.setattr(audit_module, "LARGEST_PAGE", 5 * (audit_module._ENTRY_BYTES + 600))
        path, found, counts = "/audit", [], []
        while path:
            response = await here.http.get(path, headers=ADMIN)
            found += [entry["id"] for entry in response.json()]
            counts.append(len(response.json()))
            path = link(response)
        assert len(set(found)) == len(found) == 13
        assert counts[0] == 5


async def test_configurations_that_are_too_much_are_not_read_to_be_changed(site, monkeypatch):
    monkeypatch.setattr(web_configurations, "MAXIMUM_BYTES", 3 * LARGE)
    async with site() as here:
        network = (await here.http.get("/networks", headers=ADMIN)).json()[0]["network_identifier"]
        for at in range(4):
            await here.device(f"pump-{at}")
            body = {"configuration": {"text": "x" * LARGE}}
            await here.http.post(f"/sensors/pump-{at}/configurations", json=body, headers=ADMIN)
        fetch, most = here.services.store.engine.fetch, 0

        async def fetching(query, **parameters):
            nonlocal most
            rows = await fetch(query, **parameters)
            if query == "configuration_targets":
                most = max(most, sum(len(row[4] or "") for row in rows))
            return rows

        monkeypatch.setattr(here.services.store.engine, "fetch", fetching)
        path = f"/networks/{network}/configurations"
        for change, status in (
            ({"patch": {"a": 1}}, 413),
            ({"patch": {"a": 1}, "sensors": ["pump-0"]}, 200),
            ({"configuration": {"a": 1}}, 200),
        ):
            body = {**change, "dry_run": True}
            response = await here.http.post(path, json=body, headers=ADMIN)
            assert response.status_code == status, response.text
        assert most < 2 * LARGE
        response = await here.http.post(path, json={"patch": {"a": 1}}, headers=ADMIN)
        assert (response.status_code, response.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
        response = await here.http.post(path, json={"configuration": 1}, headers=ADMIN)
        assert [each["revision"] for each in response.json()] == [1] * 4
