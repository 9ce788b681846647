import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from heliograph.store.months import (
    FIRST_MONTH,
    FIRST_TIMESTAMP,
    LAST_TIMESTAMP,
    month_name,
    month_of,
    month_start,
)


@given(st.integers(FIRST_TIMESTAMP, LAST_TIMESTAMP))
def test_a_timestamp_lies_within_its_month(timestamp):
    month = month_of(timestamp)
    assert month_start(month) <= timestamp < month_start(month + 1)
    moment = dt.datetime.fromtimestamp(timestamp // 1_000_000, dt.UTC)
    assert month_name(month) == moment.strftime("%Y_%m")


def test_the_first_month_follows_the_past():
    assert FIRST_TIMESTAMP == 1_577_836_800_000_000
    assert month_of(FIRST_TIMESTAMP) == FIRST_MONTH
    assert month_of(FIRST_TIMESTAMP - 1) == FIRST_MONTH - 1
