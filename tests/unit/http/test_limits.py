import contextlib

import pytest

from heliograph.address import network_of
from heliograph.errors import ErrorCode, HeliographError
from heliograph.http import access
from heliograph.http.access import Limits, TokenBuckets, bearer, stranger
from heliograph.http.answers import RATE
from heliograph.model.principal import Principal, Role


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1_000.0

        def monotonic(self):
            return self.now

        def time(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(access, "time", clock)
    return clock


def calling(address):
    """Return the scope of a request from there."""
    return {"client": (address, 1)}


def refused(call, name, method="GET"):
    try:
        call(name, {"method": method})
    except HeliographError as error:
        return error.code is ErrorCode.RATE_LIMITED and error.retry_after >= 1
    return False


def test_a_bucket_holds_a_minutes_worth_and_fills_again(clock):
    buckets = TokenBuckets("read", 60)
    assert not any(refused(buckets.take, "a") for _ in range(60))
    assert refused(buckets.take, "a")
    clock.now += 1.5
    assert not refused(buckets.take, "a")
    assert refused(buckets.take, "a")
    clock.now += 3_600
    assert not any(refused(buckets.take, "a") for _ in range(60))
    assert refused(buckets.take, "a")


def test_who_is_counted_is_told_what_is_left_and_when_all_is_there_again(clock):
    buckets = TokenBuckets("read", 60)

    def told(count):
        for _ in range(count):
            scope = {}
            with contextlib.suppress(HeliographError):
                buckets.take("a", scope)
        assert scope[RATE].startswith(b'ratelimit-policy: "read";q=60;w=60\r\n')
        return scope[RATE].splitlines()[1]

    assert told(1) == b'ratelimit: "read";r=59;t=2'
    assert told(9) == b'ratelimit: "read";r=50;t=11'
    assert told(50) == b'ratelimit: "read";r=0;t=61'
    assert told(1) == b'ratelimit: "read";r=0;t=2'
    clock.now += 3_600
    assert told(1) == b'ratelimit: "read";r=59;t=2'


def test_buckets_are_each_callers_own(clock):
    buckets = TokenBuckets("read", 1)
    assert not refused(buckets.take, "a")
    assert refused(buckets.take, "a")
    assert not refused(buckets.take, "b")
    assert not refused(buckets.take, 1)


def test_the_number_of_buckets_is_bounded(clock, monkeypatch):
    monkeypatch.setattr(access, "MAXIMUM_BUCKETS", 3)
    buckets = TokenBuckets("read", 10)
    for name in range(10):
        buckets.take(name, {})
    assert len(buckets._buckets) <= 3


def test_zero_is_no_limit():
    none = Limits(read=0, write=0, ingest=0)
    admin = Principal("admin", "admin")
    for _ in range(1_000):
        none.read.take("a", {})
        none.call("a", {"method": "POST"})
        none.probe.take("a", {})
        none.ingest.take(bearer(admin, calling("")), {})


def test_reads_are_counted_by_name():
    limited = Limits(read=3, write=0, ingest=0)
    assert [refused(limited.read.take, "a") for _ in range(4)] == [False] * 3 + [True]
    assert not refused(limited.read.take, "b")


def test_reads_writes_and_probes_have_a_bucket_each():
    limited = Limits(read=3, write=2, ingest=0)
    assert [refused(limited.call, "a", "GET") for _ in range(4)] == [False] * 3 + [True]
    assert refused(limited.call, "a", "HEAD")
    assert [refused(limited.call, "a", "POST") for _ in range(3)] == [False] * 2 + [True]
    assert refused(limited.call, "a", "DELETE")
    assert [refused(limited.probe.take, "a") for _ in range(4)] == [False] * 3 + [True]
    assert not refused(limited.probe.take, "b")


def test_strangers_are_counted_by_the_network_of_an_ipv6_address():
    limited = Limits(read=3, write=0, ingest=0)
    names = [stranger(calling(f"2001:db8::{host}")) for host in range(1, 5)]
    assert [refused(limited.read.take, name) for name in names] == [False] * 3 + [True]
    anonymous = Principal("anonymous", "anonymous", Role.OWNER)
    assert bearer(anonymous, calling("2001:db8::1")) == bearer(anonymous, calling("2001:db8::2"))


def test_an_ipv6_host_is_its_whole_network():
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("fe80::1%eth0") == network_of("fe80::2")
    assert network_of("10.0.0.1") == "10.0.0.1"
    assert network_of("un:known") == "un:known"


def test_anonymous_callers_are_told_apart_by_address():
    anonymous = Principal("anonymous", "anonymous", Role.OWNER)
    assert bearer(anonymous, calling("a")) != bearer(anonymous, calling("b"))
    device = Principal("device", "admin", sensor=7)
    assert bearer(device, calling("a")) == 7
    assert bearer(Principal("admin", "admin"), calling("a")) == "admin"


def test_what_others_take_is_taken_here_and_the_least_is_not_settled(clock):
    buckets = TokenBuckets("read", 400)
    buckets.share(is_shared=True)
    for _ in range(3):
        buckets.take("ada", calling("a"))
    buckets.take("bob", calling("b"))
    assert buckets.taken() == ("read", 400, 400 / 60, {"ada": 3})
    buckets.take("ada", calling("a"))
    buckets.settle({"ada": 100.0, "eve": 0.0})
    scope = calling("a")
    buckets.take("ada", scope)
    assert b"r=98;" in scope[RATE]
    with pytest.raises(HeliographError):
        buckets.take("eve", calling("e"))
    # Once a minute what is left of that is forgotten.
    clock.now += 60
    assert buckets.taken().by_name == {"ada": 2}
    buckets.take("bob", calling("b"))
    assert buckets.taken().by_name == {}
    buckets.share(is_shared=False)
    buckets.take("ada", calling("a"))
    assert buckets.taken().by_name == {}
