import socket

import pytest
from bench.mqtt_connection import Sender
from bench.packets import puback, publishes
from bench.starting_line import LoadError


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_no_more_than_the_window_is_sent_before_an_acknowledgment(pair):
    ours, theirs = pair
    sender = Sender(ours, 4)
    sender.load(publishes([1], 10, 1, 1_763_684_625_000))
    while sender.is_open:
        sender.send()
    assert sender.sent == 4
    theirs.sendall(puback(1))
    sender.receive()
    assert sender.is_open
    assert not sender.is_done


def test_it_is_done_when_every_message_is_acknowledged(pair):
    ours, theirs = pair
    sender = Sender(ours, 100)
    sender.load(publishes([1], 3, 1, 1_763_684_625_000))
    while sender.is_open:
        sender.send()
    for packet_id in (1, 2, 3):
        assert not sender.is_done
        theirs.sendall(puback(packet_id))
        sender.receive()
    assert sender.is_done
    assert sender.acknowledged == 3


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(puback(2), id="another message's"),
        pytest.param(puback(1) + puback(2) + puback(3), id="more than were sent"),
        pytest.param(b"\xe0\x00", id="another packet"),
        pytest.param(b"", id="the end"),
    ],
)
def test_any_other_answer_is_an_error(pair, answer):
    ours, theirs = pair
    sender = Sender(ours, 2)
    sender.load(publishes([1], 3, 1, 1_763_684_625_000))
    while sender.is_open:
        sender.send()
    assert sender.sent == 2
    theirs.sendall(answer)
    if not answer:
        theirs.close()
    with pytest.raises(LoadError):
        sender.receive()
