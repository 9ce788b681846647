"""The count of a run."""

from heliograph.simulator.tally import Tally


def test_what_is_not_settled_is_in_flight():
    tally = Tally()
    for _ in range(4):
        tally.sent["measurement"].add(10)
    assert tally.in_flight == 4
    tally.acknowledged["measurement"].add(10)
    tally.refused["measurement"].add(10)
    tally.lost["measurement"].add(10)
    assert tally.in_flight == 1
    assert not tally.is_complete


def test_the_summary_counts_what_was_acknowledged():
    tally = Tally()
    for _ in range(3):
        tally.sent["measurement"].add(10)
        tally.sent["log"].add(1)
    for _ in range(2):
        tally.acknowledged["measurement"].add(10)
    tally.note_error("broken")
    summary = tally.summary(qos=1, seconds=2.0)
    assert (summary["messages"], summary["measurements"]) == (2, 20)
    assert summary["messages_per_second"] == 1.0
    assert summary["unacknowledged"] == 4
    assert summary["counted"] == "acknowledged"
    assert summary["kinds"]["log"]["sent"] == {"messages": 3, "rows": 3}
    assert (summary["errors"], summary["last_error"]) == (1, "broken")


def test_all_acknowledged_is_complete_and_all_refused_is_not():
    tally = Tally()
    tally.sent["status"].add(1)
    tally.refused["status"].add(1)
    assert tally.in_flight == 0
    assert not tally.is_complete
    tally.sent["status"].add(1)
    tally.acknowledged["status"].add(1)
    assert not tally.is_complete
    tally.sent["status"].messages = 1
    assert tally.is_complete


def test_nothing_sent_in_no_time():
    summary = Tally().summary(qos=0, seconds=0)
    assert summary["messages_per_second"] == 0
    assert summary["counted"] == "sent"
