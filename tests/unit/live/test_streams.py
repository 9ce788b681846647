"""Who is sent what, how many streams there may be, and how they end."""

import json

import pytest

from heliograph.live.frames import frames_of
from heliograph.live.positions import Watermarks
from heliograph.live.streams import REVOKED, SHUTTING_DOWN, STALLED_SECONDS, Selection, Streams
from heliograph.live.viewer import Viewer
from heliograph.model.event import Committed
from heliograph.model.records import Kind

MEASURED = (7, 1, 1_700_000_000_000_000, 5, 1_700_000_000_000_001, 3, None, '{"t":21.5}')


def event(kind=Kind.MEASUREMENT, network="n1", number=1, rows=(MEASURED,), device_id="pump"):
    return Committed(kind, number, f"uuid-{number}", device_id, network, list(rows), None, None)


def sse_data(frame):
    return json.loads(frame.sse.split(b"data: ")[1])


def opened(streams, selection=None, principal="p"):
    viewer = Viewer()
    streams.enter(viewer, principal)
    streams.watch(viewer, selection or Selection())
    return viewer


async def received(viewer):
    viewer.close("end")
    return b"".join(chunk.data for chunk in (await viewer.take())[1])


def test_a_measurement_is_as_its_page_gives_it():
    (frame,) = frames_of([event()])
    assert frame.sse.startswith(b"id: 7\nevent: measurement\ndata: {")
    assert frame.sse.endswith(b"}\n\n")
    assert sse_data(frame) == {
        "sensor_identifier": "uuid-1",
        "device_id": "pump",
        "revision": 3,
        "creation_timestamp": 1_700_000_000.0,
        "measurement": {"t": 21.5},
    }
    assert json.loads(frame.reading) == {
        "type": "reading",
        "device_id": "pump",
        "data": {
            "id": "7",
            "device_id": "pump",
            "timestamp": "2023-11-14T22:13:20.000000Z",
            "revision": 3,
            "metrics": {"t": 21.5},
        },
    }


def test_logs_heartbeats_and_presence_have_their_members():
    log = (8, 1, 5_000_000, 1, 6_000_000, None, None, "error", 'a "b"\n', None)
    heartbeat = (9, 1, 5_000_000, 1, 6_000_000, 2, None, 1, '{"x":1}', 1)
    frames = frames_of(
        [
            event(Kind.LOG, rows=[log]),
            event(Kind.HEARTBEAT, rows=[heartbeat], device_id=None),
            event(Kind.PRESENCE, rows=[(7_000_000, True)]),
            event(Kind.STATUS, rows=[]),
        ]
    )
    names = {"sensor_identifier": "uuid-1", "device_id": "pump"}
    assert [sse_data(frame) for frame in frames] == [
        {**names, "revision": None, "creation_timestamp": 5.0, "severity": "error"}
        | {"subject": 'a "b"\n', "details": None},
        {**names, "device_id": None, "revision": 2, "creation_timestamp": 5.0}
        | {"receipt_timestamp": 6.0, "success": True, "details": {"x": 1}, "flagged": True},
        {**names, "connected": True, "timestamp": 7.0},
    ]
    assert [frame.id for frame in frames] == [8, 9, None]
    assert all(frame.sse.count(b"\n\n") == 1 for frame in frames)


async def test_each_is_sent_what_he_watches_encoded_once():
    streams = Streams(per_principal=10, maximum=10)
    one = Selection(networks=frozenset(["n1"]))
    first, second = opened(streams, one), opened(streams, one)
    other = opened(streams, Selection(networks=frozenset(["n2"])))
    everything = opened(streams, Selection())
    sensor = opened(streams, Selection(sensors=frozenset([2])))
    logs = opened(streams, Selection(kinds=frozenset(["log"])))
    streams.publish([event(), event(number=2, network="n2", rows=[(9, *MEASURED[1:])])])
    chunks = [(await viewer.take())[1][0] for viewer in (first, second)]
    assert chunks[0] is chunks[1]
    assert chunks[0].ids == [7]
    assert [(await viewer.take())[1][0].ids for viewer in (other, everything, sensor)] == [
        [9],
        [7, 9],
        [9],
    ]
    assert await received(logs) == b""


async def test_nobody_watches_after_the_last_has_left():
    began = []
    streams = Streams(per_principal=1, maximum=2, began=lambda: began.append(1))
    assert not streams.watched()
    viewer = opened(streams)
    assert streams.watched()
    assert began
    assert not streams.has_room("p")
    assert streams.has_room("q")
    opened(streams, principal="q")
    assert not streams.has_room("r")
    streams.leave(viewer)
    streams.leave(viewer)
    assert streams.has_room("p")
    assert streams.watched()
    assert streams.count == 1


async def test_a_silent_stream_gets_signs_of_life():
    streams = Streams(per_principal=1, maximum=1, watermarks=Watermarks(lambda: 42))
    viewer = opened(streams)
    streams.sweep(viewer.touched_at + 14)
    streams.sweep(viewer.touched_at + 15)
    assert await received(viewer) == b":\nid: 42\n\n"


async def test_who_has_much_in_his_queue_is_behind_until_he_takes_it():
    streams = Streams(per_principal=2, maximum=2)
    viewer, idle = opened(streams), opened(streams)
    streams.watch(idle, Selection(kinds=frozenset(["log"])))
    streams.publish([event(rows=[MEASURED] * 600)])
    assert not streams.behind()
    streams.publish([event(rows=[MEASURED] * 800)])
    assert streams.behind() == {viewer}
    while streams.behind():
        await viewer.take()


async def test_who_may_not_watch_any_more_is_closed():
    streams = Streams(per_principal=1, maximum=1)
    viewer = opened(streams)
    viewer.allowed = lambda: False
    streams.sweep(0)
    assert viewer.closed == REVOKED
    assert await viewer.take() == (0, [])


@pytest.mark.parametrize("waiting", [STALLED_SECONDS - 1, STALLED_SECONDS])
async def test_who_takes_nothing_is_cut_off(waiting):
    class Task:
        cancelled = False

        def cancel(self):
            self.cancelled = True

    streams = Streams(per_principal=1, maximum=1)
    viewer = opened(streams)
    viewer.task, viewer.writing_since = Task(), 100.0
    streams.sweep(100 + waiting)
    assert viewer.task.cancelled is (waiting >= STALLED_SECONDS)


async def test_the_end_closes_all_and_lets_none_begin():
    streams = Streams(per_principal=2, maximum=2)
    viewer = opened(streams)
    streams.close()
    assert viewer.closed == SHUTTING_DOWN
    late = opened(streams)
    assert late.closed == SHUTTING_DOWN


async def test_who_may_watch_no_more_is_shown_nothing_of_what_is_committed_then():
    streams = Streams(per_principal=2, maximum=2)
    viewer, other = opened(streams), opened(streams)
    viewer.allowed = lambda: False
    streams.changed()
    streams.publish([event()])
    assert viewer.closed == REVOKED
    assert await viewer.take() == (0, [])
    assert [chunk.ids for chunk in (await other.take())[1]] == [[7]]
    # Nor does he begin again, as one who resumes would.
    streams.watch(viewer, Selection())
    streams.publish([event()])
    assert await viewer.take() == (0, [])


async def test_what_waits_for_who_may_watch_no_more_is_not_sent():
    streams = Streams(per_principal=1, maximum=1)
    viewer = opened(streams)
    streams.publish([event()])
    viewer.allowed = lambda: False
    streams.sweep(0)
    assert (await viewer.take())[1] == []


@pytest.mark.parametrize(
    ("selection", "other", "includes"),
    [
        (Selection(), Selection(networks=frozenset("a")), True),
        (Selection(networks=frozenset("ab")), Selection(networks=frozenset("a")), True),
        (Selection(networks=frozenset("a")), Selection(networks=frozenset("ab")), False),
        (Selection(networks=frozenset("a")), Selection(), False),
        (Selection(sensors=frozenset([1])), Selection(sensors=frozenset([1, 2])), False),
    ],
)
def test_what_is_watched_may_include_what_was_watched_before(selection, other, includes):
    assert selection.includes(other) is includes
