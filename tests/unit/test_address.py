"""Addresses to listen on."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from heliograph.address import Address, network_of, parse_address


@given(st.integers(0, 65_535), st.ip_addresses())
def test_addresses_round_trip(port, host):
    address = Address(str(host), port)
    assert parse_address(str(address)) == address


@given(st.text())
def test_any_text_is_an_address_or_refused(text):
    with contextlib.suppress(ValueError):
        assert 0 <= parse_address(text).port <= 65_535


def test_addresses_overlap_where_one_alone_can_listen():
    everywhere, here = Address("0.0.0.0", 1), Address("127.0.0.1", 1)
    assert everywhere.overlaps(here)
    assert here.overlaps(here)
    assert not here.overlaps(Address("127.0.0.2", 1))
    assert not here.overlaps(Address("127.0.0.1", 2))
    assert not everywhere.overlaps(Address("::", 1))
    assert not Address("127.0.0.1", 0).overlaps(Address("127.0.0.1", 0))


def test_what_listens_everywhere_is_reached_by_the_name_of_this_machine():
    assert str(Address("0.0.0.0", 1883).from_here) == "localhost:1883"
    assert str(Address("::", 1883).from_here) == "localhost:1883"
    assert str(Address("::1", 1883).from_here) == "[::1]:1883"
    assert str(Address("10.0.0.7", 1883).from_here) == "10.0.0.7:1883"


def test_an_ipv6_address_is_its_64_and_an_ipv4_address_itself():
    assert network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("2001:db8::1") == network_of("2001:db8:0:0:ffff::1") == "2001:db8::/64"
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("fe80::1%eth0") == "fe80::/64"
    # As a socket for both tells them: these are no neighbours.
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("") == ""
    assert network_of("no:address") == "no:address"
