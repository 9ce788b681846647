"""The viewers' end of the live benchmarks, and the bare way to write to them."""

import contextlib
import itertools
import socket
import threading

import pytest
from bench.bare_fanout import DATA, Fanout, chunk
from bench.event_streams import Crowd, EventCount, watch
from bench.starting_line import LoadError
from hypothesis import given
from hypothesis import strategies as st

from heliograph.live import sse

EVENT = sse.event("measurement", DATA, 1)


def pieces_of(data, cuts):
    marks = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(marks)]


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=8),
    st.lists(st.integers(0, 10_000), max_size=20),
)
def test_events_and_writes_are_counted_whatever_the_pieces(writes, cuts):
    """Each number is how many events were written at once; 0: a sign of life."""
    data = b"".join(chunk(EVENT * events if events else sse.heartbeat(7)) for events in writes)
    count = EventCount()
    found = sum(count.add(piece) for piece in pieces_of(data, cuts))
    assert found == count.seen == sum(writes)
    assert count.writes == len(writes)


def test_a_lost_event_ends_the_benchmark():
    count, lagged = EventCount(), sse.lagged(3)
    assert count.add(EVENT + lagged[:10]) == 1
    with pytest.raises(LoadError, match="lost events after 1"):
        count.add(lagged[10:])


@pytest.fixture
def port():
    """Serve the bare fan-out until the test ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fanout = Fanout()

        def serve():
            with contextlib.suppress(OSError):
                fanout.serve(listening)

        thread = threading.Thread(target=serve, name="bare fan-out")
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(30)
        for viewer in fanout.viewers:
            viewer.close()


def test_the_bare_loop_writes_each_event_to_every_viewer(port):
    crowd = Crowd(port, "/events", "key", 3)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as asking:
        asking.sendall(b"GET /publish/40 HTTP/1.1\r\n\r\n")
        assert crowd.read_until(40) > 0
        assert asking.recv(1) == b""
    assert crowd.events_a_write == 1
    crowd.close()


def test_a_refused_stream_ends_the_benchmark():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse():
            client, _ = listening.accept()
            with client:
                client.recv(4_096)
                client.sendall(b"HTTP/1.1 429 Too Many Requests\r\n\r\n")

        thread = threading.Thread(target=refuse, name="refusing")
        thread.start()
        with pytest.raises(LoadError, match="429"):
            watch(listening.getsockname()[1], "/events", "key")
        thread.join(30)
