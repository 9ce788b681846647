"""The load and the download of the benchmarks of an export, and what these ask for."""

import contextlib
import re
import socket
import sqlite3
import threading

import pytest
from bench.database import Database
from bench.export import export_path
from bench.export_download import download
from bench.packets import identifier, puback
from bench.scale import Profile
from bench.starting_line import LoadError
from bench.steady_load import MESSAGES, SteadySender

SENSORS = range(2, 302)
WINDOW = 2_000
MESSAGE = re.compile(rb'/(\S{36})(..)\{[^}]*"timestamp": (\d{10}\.\d{3}),', re.DOTALL)
LINES = [b"heading\r\n", b"one\r\n", b"two\r\n"]


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    theirs.settimeout(30)
    yield ours, theirs
    ours.close()
    theirs.close()


def exchanged(sender, theirs):
    """Let the sender send what it may, acknowledge that, and return it."""
    data, acknowledged = b"", sender.acknowledged
    while sender.is_open:
        sender.send()
        with contextlib.suppress(BlockingIOError):
            data += theirs.recv(1 << 20, socket.MSG_DONTWAIT)
    found = MESSAGE.findall(data)
    assert len(found) == sender.sent - acknowledged
    theirs.sendall(b"".join(puback(int.from_bytes(each[1], "big")) for each in found))
    while sender.acknowledged < sender.sent:
        sender.receive()
    return found


def test_it_sends_the_same_again_at_another_time(pair):
    ours, theirs = pair
    sender = SteadySender(ours, WINDOW, SENSORS)
    found = []
    while len(found) < MESSAGES + WINDOW:
        found += exchanged(sender, theirs)
    assert len({(sensor, time) for sensor, _, time in found}) == len(found)
    assert {sensor.decode() for sensor, *_ in found} == {identifier(n) for n in SENSORS}
    ids = [int.from_bytes(packet_id, "big") for _, packet_id, _ in found]
    assert ids == [index % MESSAGES + 1 for index in range(len(ids))]
    times = [time for *_, time in found]
    assert times == sorted(times)


def test_no_more_than_the_window_is_sent(pair):
    ours, theirs = pair
    sender = SteadySender(ours, 40, SENSORS)
    assert len(exchanged(sender, theirs)) == 40


def test_it_goes_on_after_a_stop(pair):
    ours, theirs = pair
    sender = SteadySender(ours, WINDOW, SENSORS)
    exchanged(sender, theirs)
    assert not sender.is_done
    sender.stop()
    assert sender.is_done
    assert not sender.is_open
    sender.go_on()
    assert exchanged(sender, theirs)


def test_an_acknowledgment_out_of_turn_is_an_error(pair):
    ours, theirs = pair
    sender = SteadySender(ours, WINDOW, SENSORS)
    sender.send()
    theirs.sendall(puback(2))
    with pytest.raises(LoadError, match="not the PUBACKs"):
        sender.receive()


@pytest.fixture
def answering():
    """Return what answers one request with some bytes, and returns its port."""
    with contextlib.ExitStack() as stack:

        def answer(data):
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve():
                client, _ = listening.accept()
                with client:
                    client.recv(4_096)
                    client.sendall(data)

            thread = threading.Thread(target=serve, name="answering")
            thread.start()
            stack.callback(thread.join, 30)
            return listening.getsockname()[1]

        yield answer


def chunked(status, pieces):
    head = f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def test_all_lines_are_counted(answering):
    port = answering(chunked("200 OK", [*LINES, b""]))
    assert download(port, "/export", "key") == (3, len(b"".join(LINES)))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(chunked("200 OK", LINES), id="without its last chunk"),
        pytest.param(chunked("200 OK", LINES)[:-6], id="within a chunk"),
        pytest.param(chunked("429 Too Many Requests", [*LINES, b""]), id="of another kind"),
    ],
)
def test_an_answer_that_is_not_whole_ends_the_benchmark(answering, data):
    with pytest.raises(LoadError):
        download(answering(data), "/export", "key")


def test_so_many_of_the_oldest_rows_are_asked_for(tmp_path):
    path = str(tmp_path / "rows.db")
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE measurement (timestamp)")
        times = [(n * 1_000_000,) for n in range(100, 200)]
        database.executemany("INSERT INTO measurement VALUES (?)", times)
    database = Database("sqlite", path, path, Profile("", 1, 100, step=1_000_000), bare=False)
    asked = export_path(database, 10, "csv")
    assert asked.endswith("/export?format=csv&start=100.0&end=110.0")
