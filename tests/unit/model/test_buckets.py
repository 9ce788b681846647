"""Where buckets start, by the clocks and calendars of zones."""

import itertools
import zoneinfo
from bisect import bisect_right
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.model.buckets import (
    FIRST,
    LAST,
    MAXIMUM_BUCKETS,
    TooManyBucketsError,
    bucket_starts,
    parse_bucket,
    parse_zone,
    show,
)
from heliograph.model.time import DAY, HOUR, MINUTE, SECOND, from_rfc3339

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

ZONES = [
    "UTC",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Pacific/Apia",
    "America/New_York",
]
BUCKETS = ["10s", "7m", "15m", "30m", "1h", "2h", "6h", "9h", "1d", "2d", "1w", "1mo", "3mo"]
moments = st.integers(from_rfc3339("2009-01-01T00:00:00Z"), from_rfc3339("2030-01-01T00:00:00Z"))


def starts(bucket, zone, start, end):
    zone = parse_zone(zone)
    found = bucket_starts(parse_bucket(bucket), zone, from_rfc3339(start), from_rfc3339(end))
    return [show(moment, zone).replace(".000000", "") for moment in found]


def lengths(bucket, zone, start, end):
    found = bucket_starts(
        parse_bucket(bucket), parse_zone(zone), from_rfc3339(start), from_rfc3339(end)
    )
    return [(b - a) / HOUR for a, b in itertools.pairwise(found)]


def test_hours_in_utc():
    assert starts("1h", "UTC", "2024-05-01T10:30:00Z", "2024-05-01T12:00:00Z") == [
        "2024-05-01T10:00:00Z",
        "2024-05-01T11:00:00Z",
        "2024-05-01T12:00:00Z",
    ]


def test_hours_of_a_zone_that_is_half_an_hour_off():
    assert starts("1h", "Asia/Kolkata", "2024-05-01T10:00:00Z", "2024-05-01T11:00:00Z") == [
        "2024-05-01T15:00:00+05:30",
        "2024-05-01T16:00:00+05:30",
        "2024-05-01T17:00:00+05:30",
    ]


@pytest.mark.parametrize(
    ("day", "hours"), [("2024-03-31", 23.0), ("2024-10-27", 25.0), ("2024-06-01", 24.0)]
)
def test_days_around_changes_of_the_clocks(day, hours):
    offset = "+01:00" if hours == 23.0 else "+02:00"
    start, end = f"{day}T00:00:00{offset}", f"{day}T20:00:00{offset}"
    assert lengths("1d", "Europe/Berlin", start, end) == [hours]
    whole = f"{day}T23:59:59{'+01:00' if hours == 25.0 else '+02:00'}"
    assert lengths("1h", "Europe/Berlin", start, whole) == [1.0] * int(hours)
    assert sum(lengths("6h", "Europe/Berlin", start, whole)) == hours
    assert len(lengths("6h", "Europe/Berlin", start, whole)) == 4


def test_an_hour_that_the_clocks_show_twice_is_two_buckets():
    assert starts("1h", "Europe/Berlin", "2024-10-27T00:00:00Z", "2024-10-27T02:00:00Z") == [
        "2024-10-27T02:00:00+02:00",
        "2024-10-27T02:00:00+01:00",
        "2024-10-27T03:00:00+01:00",
    ]


def test_a_day_that_begins_at_one_o_clock():
    # Brazil put its clocks forward at midnight.
    assert starts("1d", "America/Sao_Paulo", "2017-10-15T12:00:00Z", "2017-10-16T12:00:00Z") == [
        "2017-10-15T01:00:00-02:00",
        "2017-10-16T00:00:00-02:00",
        "2017-10-17T00:00:00-02:00",
    ]


def test_a_day_that_there_was_not():
    # Samoa went from the 29th of December 2011 to the 31st.
    assert starts("1d", "Pacific/Apia", "2011-12-30T08:00:00Z", "2011-12-30T12:00:00Z") == [
        "2011-12-29T00:00:00-10:00",
        "2011-12-31T00:00:00+14:00",
        "2012-01-01T00:00:00+14:00",
    ]


def test_weeks_start_on_mondays_and_months_on_the_first():
    assert starts("1w", "Europe/Berlin", "2024-01-03T00:00:00Z", "2024-01-09T00:00:00Z") == [
        "2024-01-01T00:00:00+01:00",
        "2024-01-08T00:00:00+01:00",
        "2024-01-15T00:00:00+01:00",
    ]
    assert starts("1mo", "Europe/Berlin", "2024-02-29T22:00:00Z", "2024-03-31T23:00:00Z") == [
        "2024-02-01T00:00:00+01:00",
        "2024-03-01T00:00:00+01:00",
        "2024-04-01T00:00:00+02:00",
        "2024-05-01T00:00:00+02:00",
    ]
    assert starts("3mo", "UTC", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z") == [
        "2024-01-01T00:00:00Z",
        "2024-04-01T00:00:00Z",
    ]


@settings(max_examples=3 * settings.default.max_examples)
@given(
    bucket=st.sampled_from(BUCKETS),
    zone=st.sampled_from(ZONES),
    start=moments,
    count=st.floats(0, 300),
)
def test_buckets_cover_the_range_without_gaps(bucket, zone, start, count):
    length, zone = parse_bucket(bucket), parse_zone(zone)
    end = start + round((length.length or length.months * 30 * DAY) * count) + 1
    found = bucket_starts(length, zone, start, end)
    assert found == sorted(set(found))
    assert found[0] <= start < found[1]
    assert found[-2] < end <= found[-1]
    for moment in found:
        check_start(moment, length, zone)


def check_start(moment, length, zone):
    """A start shows a multiple of the length, unless the clock has just been changed."""
    local = datetime.fromtimestamp(moment // SECOND, UTC).astimezone(zone)
    wall = round((local.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    wall *= SECOND
    if length.months:
        months = (local.year - 1970) * 12 + local.month - 1
        regular = local.day == 1 and wall % DAY == 0 and months % length.months == 0
    elif length.length % (7 * DAY) == 0:
        regular = local.weekday() == 0 and wall % DAY == 0
    else:
        regular = wall % length.length == 0
    before = datetime.fromtimestamp(moment // SECOND - 1, UTC).astimezone(zone)
    changed = local.utcoffset() != before.utcoffset()
    assert regular or changed


@settings(max_examples=3 * settings.default.max_examples)
@given(
    bucket=st.sampled_from(BUCKETS),
    zone=st.sampled_from(ZONES),
    moment=moments,
    before=st.integers(0, 40 * DAY),
    after=st.integers(1, 40 * DAY),
)
def test_a_moment_is_in_the_same_bucket_whatever_the_range(bucket, zone, moment, before, after):
    length, zone = parse_bucket(bucket), parse_zone(zone)
    alone = bucket_starts(length, zone, moment, moment + 1)
    assert len(alone) == 2
    before = min(before, (length.length or 40 * DAY) * 50)
    after = min(after, (length.length or 40 * DAY) * 50)
    among = bucket_starts(length, zone, moment - before, moment + after)
    index = bisect_right(among, moment) - 1
    assert among[index : index + 2] == alone


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("bucket", ["999d", "1mo", "1200mo", "100w"])
def test_the_ends_of_time(zone, bucket):
    length, zone = parse_bucket(bucket), parse_zone(zone)
    day = FIRST + 5 * DAY  # where no clock shows another month
    for start, end in ((-(10**17), FIRST + 1), (LAST - 1, 10**18), (day, day + DAY)):
        found = bucket_starts(length, zone, start, end)
        assert len(found) == 2
        assert [show(moment, zone) for moment in found]
    assert bucket_starts(length, zone, 5, 5) == []
    assert bucket_starts(length, zone, LAST, LAST + DAY) == []


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_too_many_buckets(zone):
    hour, zone = parse_bucket("1h"), parse_zone(zone)
    start = from_rfc3339("2024-01-01T00:00:00Z")
    many = bucket_starts(hour, zone, start, start + MAXIMUM_BUCKETS * HOUR)
    assert len(many) == MAXIMUM_BUCKETS + 1
    for more in (1, HOUR, 10**15, 10**17):
        with pytest.raises(TooManyBucketsError):
            bucket_starts(hour, zone, start, start + MAXIMUM_BUCKETS * HOUR + more)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0s",
        "1",
        "h",
        "1y",
        "-1h",
        "1.5h",
        "01h",
        "1H",
        "1 h",
        "1001d" * 9,
        "\N{ARABIC-INDIC DIGIT ONE}h",
    ],
)
def test_what_is_no_bucket(text):
    with pytest.raises(ValueError, match="must"):
        parse_bucket(text)


@pytest.mark.parametrize("text", ["999999d", "1201mo", "9999w"])
def test_buckets_of_more_than_a_century(text):
    with pytest.raises(ValueError, match="100 years"):
        parse_bucket(text)


@pytest.mark.parametrize(
    "name",
    ["", "Mars/Olympus", "Europe", "../Europe/Berlin", "/etc/passwd", "x" * 99, "a\0b", "Éire"],
)
def test_what_is_no_zone(name):
    with pytest.raises(ValueError, match="time zone"):
        parse_zone(name)


# Files that lie beside the zones: which zone that is depends on the machine, or on nothing.
@pytest.mark.parametrize(
    "name",
    ["localtime", "posixrules", "Factory", "posix/Europe/Berlin", "right/Europe/Berlin"],
)
def test_localtime_and_posixrules_are_no_zones(name):
    with pytest.raises(ValueError, match="time zone"):
        parse_zone(name)


def test_every_zone_of_the_system_is_one():
    start = from_rfc3339("2024-03-01T00:00:00Z")
    for name in sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})[::20]:
        assert len(bucket_starts(parse_bucket("1d"), parse_zone(name), start, start + 1)) == 2


def test_what_is_shown():
    moment = from_rfc3339("2024-01-01T00:00:00Z") + 5
    assert show(moment, parse_zone("utc")) == "2024-01-01T00:00:00.000005Z"
    berlin = show(moment, parse_zone("Europe/Berlin"))
    assert berlin == "2024-01-01T01:00:00.000005+01:00"
    assert from_rfc3339(berlin) == moment
    # An offset that RFC 3339 can't say.
    assert show(-(10**14), parse_zone("Africa/Monrovia")).endswith("Z")
    assert MINUTE == 60 * SECOND
