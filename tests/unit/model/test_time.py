"""Times: microseconds, epoch seconds and RFC 3339."""

import fractions
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heliograph.model.time import (
    DAY,
    EARLIEST,
    LATEST,
    SECOND,
    from_epoch_seconds,
    from_rfc3339,
    now,
    parse,
    to_epoch_seconds,
    to_rfc3339,
)

FIRST = -62_135_596_800 * SECOND
# 2242-03-16: from here on a 64-bit float can't tell two microseconds apart.
EXACT = 2**33 * SECOND
any_time = st.integers(FIRST, LATEST)


class TestEpochSeconds:
    @given(st.integers(-EXACT, EXACT))
    @example(2**31 * SECOND + 1)
    @example(2**32 * SECOND - 1)
    @example(2**32 * SECOND + 1)
    @example(EXACT - 1)
    @example(4_473_890_047_587_979)
    @example(8_589_934_591_999_999)
    def test_seconds_give_the_time_again(self, microseconds):
        assert from_epoch_seconds(to_epoch_seconds(microseconds)) == microseconds

    @given(st.integers(2**31 * SECOND, EXACT - 2).map(lambda time: time | 1))
    def test_seconds_of_the_next_centuries_give_the_time_again(self, microseconds):
        assert from_epoch_seconds(to_epoch_seconds(microseconds)) == microseconds

    @given(st.floats(-(2.0**33), 2.0**33))
    def test_seconds_are_rounded_to_the_nearest_microsecond(self, seconds):
        exact = fractions.Fraction(seconds) * SECOND
        assert abs(from_epoch_seconds(seconds) - exact) <= fractions.Fraction(3, 4)

    @given(st.integers(-62_135_596_800, 253_402_300_799))
    def test_whole_seconds_are_exact(self, seconds):
        assert from_epoch_seconds(seconds) == seconds * SECOND
        assert from_epoch_seconds(float(seconds)) == seconds * SECOND

    @pytest.mark.parametrize(
        "seconds",
        [
            float("nan"), float("inf"), float("-inf"), 1e300, 10**400, -(10**400),
            253_402_300_800, 253_402_300_800.0, -62_135_596_801, -62_135_596_800.5,
        ],
    )  # fmt: skip
    def test_other_numbers_are_no_times(self, seconds):
        with pytest.raises(ValueError):
            from_epoch_seconds(seconds)

    def test_now_is_the_present_in_microseconds(self):
        present = datetime.now(UTC).timestamp()
        assert abs(to_epoch_seconds(now()) - present) < 60


class TestRfc3339:
    @given(any_time)
    @example(FIRST)
    @example(LATEST)
    @example(0)
    def test_text_gives_the_time_again(self, microseconds):
        text = to_rfc3339(microseconds)
        assert from_rfc3339(text) == microseconds
        assert len(text) == len("2001-09-09T01:46:40.000000Z")

    @given(st.integers(EARLIEST, LATEST - DAY), st.integers(-1439, 1439))
    def test_offsets_are_taken_into_account(self, microseconds, minutes):
        zone = timezone(timedelta(minutes=minutes))
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
        assert from_rfc3339(moment.astimezone(zone).isoformat()) == microseconds

    @pytest.mark.parametrize(
        ("text", "microseconds"),
        [
            ("2001-09-09T01:46:40Z", EARLIEST),
            ("2001-09-09t01:46:40z", EARLIEST),
            ("2001-09-09 01:46:40Z", EARLIEST),
            ("2001-09-09T01:46:40.0000019Z", EARLIEST + 1),
            ("2001-09-09T01:46:40.1Z", EARLIEST + 100_000),
            ("2001-09-09T07:16:40+05:30", EARLIEST),
            ("2001-09-08T23:46:40-02:00", EARLIEST),
            ("2001-09-09T01:46:40-00:00", EARLIEST),
            ("2016-12-31T23:59:60Z", 1_483_228_800 * SECOND),
            ("2016-12-31T23:59:60.5Z", 1_483_228_800 * SECOND + 500_000),
            ("2017-01-01T05:29:60+05:30", 1_483_228_800 * SECOND),
            ("2024-02-29T00:00:00Z", 1_709_164_800 * SECOND),
            ("9999-12-31T23:59:59.999999Z", LATEST),
            ("0001-01-01T00:00:00Z", FIRST),
        ],
    )
    def test_times_as_the_standard_has_them(self, text, microseconds):
        assert from_rfc3339(text) == microseconds

    @pytest.mark.parametrize(
        "text",
        [
            "", "now", "1700000000", "2001-09-09", "2001-09-09T01:46:40", "2001-09-09T01:46Z",
            "2001-09-09T01:46:40+0200", "2001-09-09T01:46:40+24:00", "2001-09-09T01:46:40+02:60",
            "2001-09-09T24:00:00Z", "2001-09-09T01:60:00Z", "2001-09-09T01:46:61Z",
            "2001-09-09T01:46:60Z", "2016-12-31T23:59:60+01:00", "2001-09-09T01:46:40.Z",
            "2001-09-09T01:46:40,5Z", "2001-09-09T01:46:40.1234567890Z", "2001-13-09T01:46:40Z",
            "2023-02-29T00:00:00Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01", "9999-12-31T23:59:60Z", "+2001-09-09T01:46:40Z",
            " 2001-09-09T01:46:40Z", "2001-09-09T01:46:40Z\n", "٢٠٠١-09-09T01:46:40Z",
            "2001-W36-7T01:46:40Z", "20010909T014640Z", "2001-09-09T1:46:40Z",
        ],
    )  # fmt: skip
    def test_other_texts_are_no_times(self, text):
        with pytest.raises(ValueError):
            from_rfc3339(text)

    @given(
        st.text(max_size=30) | st.from_regex(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)\Z")
    )
    def test_any_text_is_a_time_or_a_value_error(self, text):
        try:
            microseconds = from_rfc3339(text)
        except ValueError:
            return
        assert FIRST <= microseconds <= LATEST
        assert from_rfc3339(to_rfc3339(microseconds)) == microseconds


class TestParse:
    @pytest.mark.parametrize(
        ("value", "microseconds"),
        [
            (5, 5 * SECOND),
            (5.5, 5_500_000),
            ("5", 5 * SECOND),
            ("-5.25", -5_250_000),
            ("1700000000.000001", 1_700_000_000_000_001),
            ("1.7e9", 1_700_000_000 * SECOND),
            ("2001-09-09T01:46:40Z", EARLIEST),
            (DAY // SECOND, DAY),
        ],
    )
    def test_numbers_their_texts_and_rfc3339(self, value, microseconds):
        assert parse(value) == microseconds

    @pytest.mark.parametrize(
        "value", ["", "nan", "inf", "-Infinity", "1_000", " 5", "5 ", "0x10", "1e999", "9" * 400]
    )
    def test_other_texts_are_no_times(self, value):
        with pytest.raises(ValueError):
            parse(value)
