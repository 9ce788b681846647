"""Server-Sent Events over real connections."""

import asyncio
import contextlib
import shutil

import httpx
import pytest

from heliograph.http import streams
from heliograph.live.frames import Frame
from heliograph.model.identifiers import first_ingest_id
from heliograph.model.time import now
from integration.http.conftest import (
    ADMIN,
    SHARED,
    STREAM_SECONDS,
    established,
    narrow,
    send,
    values,
)
from server import eventually


async def test_a_network_is_shown_live(site, serving, watching):
    async with site() as running, serving(running.web) as port:
        await running.device("pump")
        await running.http.post("/devices", json={"device_id": "fan"}, headers=ADMIN)
        await send(running, 1)
        network = running.services.registry.default_network
        async with watching(port, f"/streams/{network}") as events:
            name, activity = await events.event()
            assert name == "activity"
            assert [sum(each["measurement_counts"]) for each in activity] == [1, 0]
            assert activity[0]["bucket_timestamps"][0] % 14_400 == 0
            await send(running, 2)
            name, event = await events.event()
            assert name == "measurement"
            page = (await running.http.get("/sensors/pump/measurements", headers=ADMIN)).json()
            assert {key: event[key] for key in page[-1]} == page[-1]
            assert event["device_id"] == "pump"
            log = {"severity": "info", "subject": "x"}
            await running.http.post("/sensors/pump/logs", json=log, headers=ADMIN)
            name, event = await events.event()
            assert (name, event["severity"], event["details"]) == ("log", "info", None)


async def test_filters(site, serving, watching):
    async with site() as running, serving(running.web) as port:
        for name in ("pump", "fan"):
            await running.device(name)
        query = "/events?sensor=fan&kind=measurement"
        async with watching(port, query) as events:
            assert set(await events.block()) == {"", "id"}
            log = {"severity": "info", "subject": "x"}
            await running.http.post("/sensors/fan/logs", json=log, headers=ADMIN)
            await send(running, 1)
            await send(running, 2, sensor="fan")
            assert await values(events, 1) == [2]


async def test_headers_say_not_to_buffer(site, serving):
    async with site() as running, serving(running.web) as port:
        url = f"http://127.0.0.1:{port}/events"
        async with (
            httpx.AsyncClient() as http,
            http.stream("GET", url, headers=ADMIN) as response,
        ):
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["x-accel-buffering"] == "no"
            assert "no-store" in response.headers["cache-control"]


async def test_streams_are_refused(site):
    async with site() as running:
        await running.device("pump")
        stranger = await running.user("stranger")
        await running.account("member")
        foreign = await running.network("elsewhere", member="viewer")
        for path, headers, status in (
            (f"/streams/{foreign}", stranger, 404),
            ("/streams/00000000-0000-4000-8000-000000000000", stranger, 404),
            ("/streams/nonsense", ADMIN, 404),
            ("/events?sensor=pump", stranger, 404),
            ("/events?kind=nonsense", ADMIN, 422),
            ("/events", {}, 401),
            ("/events?ticket=nonsense", {}, 401),
            ("/events", SHARED, 403),
        ):
            response = await running.http.get(path, headers=headers)
            assert response.status_code == status, (path, response.text)
        answers = [
            (await running.http.get(path, headers=stranger)).content
            for path in (f"/streams/{foreign}", "/streams/00000000-0000-4000-8000-000000000000")
        ]
        assert answers[0] == answers[1]


async def test_streams_are_bounded_by_principal(site, serving, watching):
    async with site(max_streams_per_principal=1) as running, serving(running.web) as port:
        async with watching(port, "/events"):
            response = await running.http.get("/events", headers=ADMIN)
            assert response.status_code == 429
            assert response.json()["code"] == "TOO_MANY_STREAMS"
            assert "retry-after" in response.headers
        async with asyncio.timeout(STREAM_SECONDS):
            while running.services.streams.count:  # noqa: ASYNC110 - nobody tells when it is
                await asyncio.sleep(0.01)
        async with watching(port, "/events"):
            pass


@pytest.mark.parametrize("with_ticket", [False, True])
async def test_the_end_of_a_session_ends_its_streams(site, serving, watching, with_ticket):
    async with site() as running, serving(running.web) as port:
        user = await running.user("ada")
        network = await running.network("garden", ada="viewer")
        path, headers = f"/streams/{network}", user
        if with_ticket:
            ticket = (await running.http.post("/tickets", headers=user)).json()["ticket"]
            path, headers = f"{path}?ticket={ticket}", {}
        async with watching(port, path, headers) as events:
            assert (await events.event())[0] == "activity"
            assert (await running.http.delete("/authentication", headers=user)).is_success
            begun = asyncio.get_running_loop().time()
            assert await events.event() is None
            assert asyncio.get_running_loop().time() - begun < 5 * 2  # on a busy machine


async def test_a_ticket_opens_one_stream(site, database):
    async with site(database_url=database) as running:
        user = await running.user("ada")
        await running.network("garden", ada="viewer")
        ticket = (await running.http.post("/tickets", headers=user)).json()["ticket"]
        path = f"/events?ticket={ticket}"
        answers = await asyncio.gather(*(running.http.get(path) for _ in range(8)))
        assert sorted(each.status_code for each in answers) == [200] + [401] * 7
        late = await running.http.get(path)
        assert (late.status_code, late.json()["code"]) == (401, "INVALID_TOKEN")


async def test_a_ticket_ends_with_the_session_that_it_was_made_in(site):
    async with site() as running:
        user = await running.user("ada")
        ticket = (await running.http.post("/tickets", headers=user)).json()["ticket"]
        assert (await running.http.delete("/authentication", headers=user)).is_success
        assert (await running.http.get(f"/events?ticket={ticket}")).status_code == 401


async def test_a_removed_member_is_shown_no_more(site, serving, watching):
    async with site() as running, serving(running.web) as port:
        user = await running.user("ada")
        network = await running.network("garden", ada="viewer")
        async with watching(port, f"/streams/{network}", user) as events:
            assert (await events.event())[0] == "activity"
            removed = await running.http.delete(f"/networks/{network}/members/ada", headers=ADMIN)
            assert removed.is_success
            assert await events.event() is None


async def test_the_server_s_end_ends_streams_with_a_retry_hint(site, serving, watching):
    async with site() as running, serving(running.web) as port:
        async with watching(port, "/events") as events:
            await events.block()
            running.services.streams.close()
            assert "retry" in await events.block()
            assert await events.block() is None
        assert (await running.http.get("/events", headers=ADMIN)).status_code == 503


@pytest.fixture
def database(engine, request, migrated, tmp_path):
    """A database that outlives the server, on each engine."""
    if engine == "postgresql":
        return request.getfixturevalue("postgresql_url")
    shutil.copy(migrated, tmp_path / "kept.db")
    return f"sqlite:///{tmp_path}/kept.db"


async def test_resuming_through_a_restart_without_gap_or_repeat(site, serving, watching, database):
    async with site(database_url=database) as running, serving(running.web) as port:
        await running.device("pump")
        await running.device("fan")
        async with watching(port, "/events?sensor=pump") as events:
            await events.block()
            await send(running, 0, 1, 2)
            assert await values(events, 2) == [0, 1]
            last = events.last_id
    async with site(database_url=database) as running, serving(running.web) as port:
        await send(running, 3, 4)
        await send(running, 99, sensor="fan")
        heartbeat = {"success": True}
        await running.http.post("/sensors/pump/heartbeats", json=heartbeat, headers=ADMIN)
        headers = {**ADMIN, "last-event-id": last}
        async with watching(port, "/events?sensor=pump", headers) as events:
            assert await values(events, 3) == [2, 3, 4]
            assert (await events.event())[0] == "heartbeat"
            await send(running, 5)
            assert await values(events, 1) == [5]


async def test_the_seam_has_neither_gap_nor_repeat(site, serving, watching, database):
    async with site(database_url=database) as running, serving(running.web) as port:
        await running.device("pump")
        async with watching(port, "/events") as events:
            await events.block()
            start = events.last_id
        sending = asyncio.create_task(send(running, *range(120)), name="sending")
        for _ in range(4):
            query = f"/events?last_event_id={start}"
            async with watching(port, query) as events:
                assert await values(events, 40) == list(range(40))
        await sending
        async with watching(port, f"/events?last_event_id={start}") as events:
            assert await values(events, 120) == list(range(120))


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ("nonsense", "unknown"),
        (lambda: first_ingest_id(now() + 3_600_000_000), "unknown"),
        (lambda: first_ingest_id(now() - 2 * 3_600_000_000), "too old"),
        (lambda: first_ingest_id(now() - 1_800_000_000), "too many"),
    ],
)
async def test_what_cannot_be_resumed_is_reset(site, serving, watching, monkeypatch, last, reason):
    monkeypatch.setattr(streams, "MAXIMUM_EVENTS", 2)
    async with site() as running, serving(running.web) as port:
        await running.device("pump")
        await send(running, 1, 2, 3)
        headers = {**ADMIN, "last-event-id": str(last() if callable(last) else last)}
        async with watching(port, "/events", headers) as events:
            assert await events.event() == ("reset", {"reason": reason})
            await send(running, 4)
            assert await values(events, 1) == [4]


async def test_configurations_and_presence_are_told(site, serving, watching):
    async with site() as running, serving(running.web) as port:
        await running.device("pump")
        async with watching(port, "/events") as events:
            await events.block()
            configuration = {"configuration": {"interval": 5}}
            path = "/sensors/pump/configurations"
            for change in ("POST", "PUT"):
                where = path if change == "POST" else "/sensors/pump"
                answer = await running.http.request(
                    change, where, json=configuration, headers=ADMIN
                )
                assert answer.is_success
                name, event = await events.event()
                assert name == "configuration"
                page = (await running.http.get(path, headers=ADMIN)).json()
                assert {"device_id", "sensor_identifier"} == event.keys() - page[-1].keys()
                assert (event["revision"], event["configuration"]) == (
                    page[-1]["revision"],
                    {"interval": 5},
                )
            number = (await running.services.registry.find("pump")).number
            running.services.registry.connected.enter(number, 1_700_000_000_000_000)
            name, event = await events.event("presence")
            assert (event["connected"], event["timestamp"]) == (True, 1_700_000_000.0)


async def test_what_is_both_read_and_told_is_sent_once(site, serving, watching):
    async with site() as running, serving(running.web) as port:
        await running.device("pump")
        async with watching(port, "/events") as events:
            await events.block()
            start = events.last_id
        await send(running, 0)
        store, calls = running.services.store.replay, []
        index = store.index

        async def index_amid_commits(*given):
            calls.append(given)
            # The first time before it watches, the second time while it does.
            await send(running, len(calls))
            return await index(*given)

        store.index = index_amid_commits
        async with watching(port, f"/events?last_event_id={start}") as events:
            assert await values(events, 3) == [0, 1, 2]
            await send(running, 3)
            assert await values(events, 1) == [3]
        assert len(calls) == 2


@pytest.fixture
def direct(monkeypatch):
    """Return a list of how many bytes were written past ASGI each time."""
    written, outlet_of = [], streams.outlet_of

    def watched(scope):
        outlet = outlet_of(scope)
        if outlet is not None:
            write = outlet.write
            outlet.write = lambda data: (written.append(len(data)), write(data))
        return outlet

    monkeypatch.setattr(streams, "outlet_of", watched)
    return written


async def first_viewer(shown):
    """Return who watches, once somebody does."""
    async with asyncio.timeout(STREAM_SECONDS):
        while not shown.watched():  # noqa: ASYNC110 - nobody tells when
            await asyncio.sleep(0.01)
    (viewer,) = shown._open
    return viewer


async def body_of(reader, until):
    """Return an answer's body, by its chunks, once it contains something."""
    async with asyncio.timeout(STREAM_SECONDS):
        assert b"transfer-encoding: chunked" in (await reader.readuntil(b"\r\n\r\n")).lower()
        body = b""
        while until not in body:
            size = int(await reader.readline(), 16)
            body += await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        return body


@pytest.mark.parametrize("http", ["httptools", "h11", None])
async def test_under_any_server_the_bytes_are_the_same(site, serving, direct, http):
    options = {} if http is None else {"http": http}
    async with site() as running, serving(running.web, **options) as port:
        await running.device("pump")
        reader, writer = await narrow(port, "/events")
        events = [f"{number:030d}".encode() for number in range(4)]
        with contextlib.closing(writer):
            await first_viewer(running.services.streams)
            for event in events:
                frame = Frame("log", 1, "n", None, event, "pump")
                running.services.streams.show([frame])
                await asyncio.sleep(0)
            body = await body_of(reader, events[-1])
        shown = b"".join(b"event: log\ndata: %b\n\n" % event for event in events)
        assert body.endswith(shown)
        assert bool(direct) is (http is None)


async def test_who_does_not_read_is_told_what_he_lost_and_delays_nobody(
    site, serving, watching, direct
):
    async with site() as running, serving(running.web) as port:
        await running.device("pump")
        shown = running.services.streams
        reader, writer = await narrow(port, "/events")
        with contextlib.closing(writer):
            slow = await first_viewer(shown)
            async with watching(port, "/events") as events:
                await events.block()
                count, lost = 0, 0
                while not lost:
                    frame = Frame("log", 1, "n", None, b'"%060000d"' % count, "pump")
                    shown.show([frame])
                    count += 1
                    assert count < 2_000, "all of it was taken"
                    assert await events.event("log") is not None
                    lost = slow.dropped
                assert direct
                assert not slow.outlet.ready
                frame = Frame("log", 1, "n", None, b'"last"', "pump")
                shown.show([frame])
                body = await body_of(reader, b'"last"')
        received = body.count(b"event: log\n")
        told = [int(part.split(b"}")[0]) for part in body.split(b'data: {"count":')[1:]]
        assert told
        assert received + sum(told) == count + 1


async def test_who_is_cut_off_keeps_no_connection(site, serving):
    async with site() as running, serving(running.web) as port:
        shown = running.services.streams
        _, writer = await narrow(port, "/events")
        with contextlib.closing(writer):
            slow = await first_viewer(shown)
            while not slow.dropped:
                frame = Frame("log", 1, "n", None, b'"%060000d"' % 0, "pump")
                shown.show([frame])
                await asyncio.sleep(0)
            assert established(port) == 1
            shown.close()
            async with asyncio.timeout(STREAM_SECONDS):
                while established(port):  # noqa: ASYNC110 - nobody tells when
                    await asyncio.sleep(0.05)


async def test_heartbeats_are_told_as_their_page_gives_them(site, serving, watching, database):
    async with site(database_url=database) as running, serving(running.web) as port:
        await running.device("pump")
        revision = {"configuration": {"x": 1}}
        created = await running.http.post(
            "/sensors/pump/configurations", json=revision, headers=ADMIN
        )
        assert created.status_code == 201, created.text
        async with watching(port, "/events?kind=heartbeat") as events:
            await events.block()
            start = events.last_id
            said = [{"revision": 0, "success": True}, {"revision": 7}, {"success": False}]
            for heartbeat in said:
                response = await running.http.post(
                    "/sensors/pump/heartbeats", json=heartbeat, headers=ADMIN
                )
                assert response.is_success, response.text
            live = [(await events.event())[1] for _ in said]
        async with watching(port, f"/events?kind=heartbeat&last_event_id={start}") as events:
            assert [(await events.event())[1] for _ in said] == live
        page = (await running.http.get("/sensors/pump/heartbeats", headers=ADMIN)).json()
        assert [entry["flagged"] for entry in page] == [False, True, False]
        assert [{name: each[name] for name in page[0]} for each in live] == page


async def test_what_rules_show_and_alerts_are_for_the_people_of_their_network(
    site, serving, watching
):
    async with site(processing_interval=0.05) as running, serving(running.web) as port:
        await running.account("ash")
        kanto = await running.network("kanto", ash="editor")
        johto = await running.network("johto")
        pump = await running.device("pump", network_identifier=kanto)
        await running.device("fan", network_identifier=johto)
        ash = await running.session(await running.services.store.accounts.find_username("ash"))
        template = {
            "{{sensor.device_id}}": "{{value.t}}",
            "by": "{{rule.name}} in {{network.name}}",
        }
        for network in (kanto, johto):
            rule = {
                "name": "Hot",
                "network_identifier": network,
                "condition": {"attribute": "t", "above": 30},
                "actions": [
                    {"type": "sse"},
                    {"type": "sse", "template": template},
                    {"type": "alert", "text": "hot"},
                ],
            }
            made = await running.http.post("/rules", json=rule, headers=ADMIN)
            assert made.status_code == 201, made.text
        await eventually(lambda: len(running.services.processor.index.rules) == 2)
        people = "kind=alert&kind=rule"
        async with (
            watching(port, f"/events?{people}", ash) as seen,
            watching(port, f"/streams/{johto}?{people}") as elsewhere,
            watching(port, "/events", pump) as own,
        ):
            await send(running, 31)
            events = [await seen.event() for _ in range(3)]
            (alert,) = (data for name, data in events if name == "alert")
            plain, made = sorted((data for name, data in events if name == "rule"), key=len)[::-1]
            assert (alert["event"], alert["device_id"]) == ("raised", "pump")
            assert (plain["value"], plain["kind"], plain["device_id"]) == (
                *({"t": 31}, "measurement", "pump"),
            )
            assert plain["rule"]["occasion"] == "raised"
            assert made["event"] == {"pump": 31, "by": "Hot in kanto"}
            assert "value" not in made
            answer = await running.http.post(
                f"/alerts/{alert['id']}/acknowledge",
                json={"comment": "the intern did it"},
                headers=ash,
            )
            assert answer.status_code == 200, answer.text
            name, data = await seen.event()
            assert (name, data["comment"]) == ("alert", "the intern did it")
            # The device sees what it has sent, and none of that.
            await send(running, 32)
            assert await values(own, 1) == [31]
            assert (await own.event())[0] == "measurement"
            # Nor does another network.
            await send(running, 33, sensor="fan")
            assert {(await elsewhere.event())[1]["device_id"] for _ in range(3)} == {"fan"}
