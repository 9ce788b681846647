"""Which addresses may be connected to for users, and what WEBHOOK_ALLOW adds."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bare_environment import refusal
from heliograph.destinations import may_reach, parse_destination
from heliograph.settings import load_settings

PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
INWARD = (
    "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 "
    "172.31.255.255 192.0.0.8 192.0.2.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 "
    "239.255.255.250 240.0.0.1 255.255.255.255 "
    ":: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 "
    "64:ff9b::10.0.0.1 64:ff9b:1::808:808 100::1 2001::1 2001:db8::1 2002:7f00:1:: 2002:808:808::1 "
    "3fff::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1 "
)


def test_only_addresses_of_the_internet_are_reached():
    assert [text for text in PUBLIC if not may_reach("h", text, 80, ())] == []
    assert [text for text in INWARD.split() if may_reach("h", text, 80, ())] == []


PRIVATE = [IPv4Network("10.0.0.0/8"), IPv4Network("127.0.0.0/8"), IPv4Network("192.168.0.0/16")]


@given(st.sampled_from(PRIVATE), st.integers(0, (1 << 32) - 1))
def test_no_private_address_is_reached_in_any_form(network, number):
    address = IPv4Address(int(network.network_address) | number & int(network.hostmask))
    forms = [address, *(IPv6Address(base | int(address)) for base in (0, 0xFFFF << 32))]
    forms += [IPv6Address((0x64FF9B << 96) | int(address)), IPv6Address(f"2002:{number >> 16:x}::")]
    assert not any(may_reach("h", form, 443, ()) for form in forms)


ALLOWED = tuple(
    map(
        parse_destination,
        (
            "10.0.0.0/8",
            "192.168.1.5:8080",
            "[fd00::1]:8080",
            "fd01::/16",
            "NAS.lan",
            "node-red:1880",
            "64:ff9b::/96",
        ),
    )
)


@pytest.mark.parametrize(
    ("host", "address", "port", "is_allowed"),
    [
        ("x", "10.1.2.3", 80, True),
        ("x", "::ffff:10.1.2.3", 80, True),
        ("x", "64:ff9b::a01:203", 80, True),
        ("x", "11.1.2.3", 80, True),
        ("x", "127.0.0.1", 80, False),
        ("x", "192.168.1.5", 8080, True),
        ("x", "192.168.1.5", 80, False),
        ("x", "fd00::1", 8080, True),
        ("x", "fd00::2", 8080, False),
        ("x", "fd01::2", 1, True),
        ("nas.lan", "192.168.7.7", 1, True),
        ("NAS.LAN.", "127.0.0.1", 1, True),
        ("evil.nas.lan", "192.168.7.7", 1, False),
        ("node-red", "192.168.7.7", 1880, True),
        ("node-red", "192.168.7.7", 1881, False),
        # What leads to a private IPv4 address is not covered by a network of IPv6.
        ("x", "64:ff9b::7f00:1", 80, False),
    ],
)
def test_what_is_allowed_is_reached_too(host, address, port, is_allowed):
    assert may_reach(host, ip_address(address), port, ALLOWED) is is_allowed


def test_the_setting_takes_what_it_shows():
    text = "10.0.0.0/8, 192.168.1.5:8080,[fd00::1]:8080,nas.lan,node-red:1880"
    settings = load_settings(webhook_allow=text)
    shown = settings.masked()["WEBHOOK_ALLOW"]
    assert load_settings(webhook_allow=",".join(shown)).webhook_allow == settings.webhook_allow


@pytest.mark.parametrize(
    "text", ["*", "http://a", "a:0", "a:65536", "a:b", "10.0.0.0/33", "10.1", "0x7f.1", "127.1:80"]
)
def test_what_is_no_destination_is_refused(text):
    assert refusal(webhook_allow=text) == (
        f"WEBHOOK_ALLOW: {text!r} is no destination; allowed: like 10.0.0.0/8, 192.168.1.5:8080,"
        " [fd00::1]:8080 or nodered.lan:1880"
    )
