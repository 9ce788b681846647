from heliograph import line_rate as module
from heliograph.line_rate import AT_ONCE, PER_SECOND, LineRate


def test_a_burst_is_written_then_so_many_a_second_and_the_next_one_tells_of_the_others(monkeypatch):
    at = [1_000.0]
    monkeypatch.setattr(module, "monotonic", lambda: at[0])
    rate = LineRate()
    assert [rate.due() for _ in range(AT_ONCE)] == [{}] * AT_ONCE
    assert [rate.due() for _ in range(7)] == [None] * 7
    at[0] += 1
    told = [rate.due() for _ in range(PER_SECOND + 3)]
    assert told == [{"not_logged_before": 7}, *[{}] * (PER_SECOND - 1), *[None] * 3]
    # What was not used of a quiet day is not more than a burst.
    at[0] += 86_400
    told = [rate.due() for _ in range(AT_ONCE + 1)]
    assert told == [{"not_logged_before": 3}, *[{}] * (AT_ONCE - 1), None]
