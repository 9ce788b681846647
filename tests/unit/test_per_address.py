from heliograph.per_address import PerAddress

MOST, OF_ALL = 3, 12


def admitted(addresses):
    """Return which of these connections are let in, one after the other."""
    kept, found = PerAddress(), []
    for address in addresses:
        found.append(not kept.is_full(address, MOST, OF_ALL))
        if found[-1]:
            kept.enter(address)
    for address, is_in in zip(addresses, found, strict=True):
        if is_in:
            kept.leave(address)
    assert kept == {}
    return found


def test_an_address_has_so_many_and_an_ipv6_network_half_of_all():
    assert admitted(["192.0.2.1"] * 4 + ["192.0.2.2"]) == [True] * 3 + [False, True]
    assert admitted(["2001:db8::1"] * 4 + ["2001:db8::2"]) == [True] * 3 + [False, True]
    of_one_host = [f"2001:db8::{number:x}" for number in range(8)]
    others = ["2001:db8:0:1::1", "192.0.2.1"]
    assert admitted(of_one_host + others) == [True] * 6 + [False] * 2 + [True] * 2


def test_an_address_may_have_what_is_more_than_half_of_all():
    kept = PerAddress({"2001:db8::1": 8, "2001:db8::/64": 8})
    assert not kept.is_full("2001:db8::1", 10, OF_ALL)
    assert kept.is_full("2001:db8::1", 8, OF_ALL)
