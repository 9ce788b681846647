"""When a delivery is over for good."""

import dataclasses

from heliograph.mqtt.link import Confirmed


@dataclasses.dataclass
class Taken:
    delivery: bytes | None
    first_id: int = 1
    dropped: str | None = None
    duplicates: dict[int, int] | None = None


def test_only_an_answered_ping_after_the_acknowledgment_tells():
    confirmed = Confirmed()
    assert not confirmed.is_due
    confirmed.acknowledge(Taken(b"a", 1))
    assert confirmed.is_due
    confirmed.pinged()
    confirmed.acknowledge(Taken(b"b", 2))
    assert confirmed.is_due
    confirmed.pinged()
    assert not confirmed.is_due
    assert confirmed.answered() == [(b"a", 1)]
    assert confirmed.answered() == [(b"b", 2)]
    assert confirmed.answered() == []


def test_what_the_ledger_does_not_have_is_not_kept():
    confirmed = Confirmed()
    confirmed.acknowledge(Taken(None))
    assert not confirmed.is_due


def test_a_repeat_is_known_by_the_id_of_the_first():
    confirmed = Confirmed()
    confirmed.acknowledge(Taken(b"a", 9, dropped="", duplicates={9: 4}))
    confirmed.acknowledge(Taken(b"b", 0, dropped=""))
    confirmed.pinged()
    assert confirmed.answered() == [(b"a", 4)]


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr("heliograph.mqtt.link.MOST_UNCONFIRMED", 2)
    confirmed = Confirmed()
    for number in range(5):
        confirmed.acknowledge(Taken(b"%d" % number, number))
    confirmed.pinged()
    assert len(confirmed.answered()) <= 2
