"""The address of an external broker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.broker_url import BrokerUrl, parse_broker_url

GOOD = [
    ("mqtt://broker", ("broker", 1883, False, None, None)),
    ("mqtts://broker", ("broker", 8883, True, None, None)),
    ("tcp://broker:1884/", ("broker", 1884, False, None, None)),
    ("ssl://broker:1", ("broker", 1, True, None, None)),
    ("MQTT://Broker.Example:65535", ("broker.example", 65_535, False, None, None)),
    ("mqtt://[::1]", ("::1", 1883, False, None, None)),
    ("mqtts://[fe80::1]:8884", ("fe80::1", 8884, True, None, None)),
    ("mqtt://name@10.0.0.1", ("10.0.0.1", 1883, False, "name", None)),
    ("mqtt://name:word@broker", ("broker", 1883, False, "name", "word")),
    ("mqtt://name:@broker", ("broker", 1883, False, "name", "")),
    ("mqtt://:word@broker", ("broker", 1883, False, None, "word")),
    ("mqtt://a%40b:c%3Ad%2Fe%25@broker", ("broker", 1883, False, "a@b", "c:d/e%")),
    ("mqtt://n%C3%A4me:p@ss@broker", ("broker", 1883, False, "näme", "p@ss")),
]


@pytest.mark.parametrize(("text", "parts"), GOOD)
def test_a_good_url(text, parts):
    assert parse_broker_url(text) == BrokerUrl(*parts)


BAD = [
    ("", "should start with mqtt:// or, for TLS, mqtts://"),
    ("hidden", "should start with mqtt:// or, for TLS, mqtts://"),
    ("hidden:1883", "should start with mqtt:// or, for TLS, mqtts://"),
    ("http://hidden", "should start with mqtt:// or, for TLS, mqtts://"),
    ("ws://hidden:8083/mqtt", "should start with mqtt:// or, for TLS, mqtts://"),
    ("mqtt://", "should name a host, like mqtt://host"),
    ("mqtt:hidden", "should name a host, like mqtt://host"),
    ("mqtt://:1883", "should name a host, like mqtt://host"),
    ("mqtt://u:hidden@", "should name a host, like mqtt://host"),
    ("mqtt://host/hidden", "should end with host and port, like mqtt://host:1883"),
    ("mqtt://host?hidden=1", "should end with host and port, like mqtt://host:1883"),
    ("mqtt://host#hidden", "should end with host and port, like mqtt://host:1883"),
    ("mqtt://u:hid#den@host", "is not a URL; allowed: like mqtt://host:1883"),
    ("mqtt://host:0", "should have a port from 1 to 65535"),
    ("mqtt://host:65536", "is not a URL; allowed: like mqtt://host:1883"),
    ("mqtt://host:hidden", "is not a URL; allowed: like mqtt://host:1883"),
    ("mqtt://[::1", "is not a URL; allowed: like mqtt://host:1883"),
]


@pytest.mark.parametrize(("text", "line"), BAD)
def test_a_bad_url_is_refused_without_showing_it(text, line):
    with pytest.raises(ValueError, match=r"^(is|should)") as caught:
        parse_broker_url(text)
    assert str(caught.value) == line
    assert caught.value.__cause__ is None


@given(st.text(max_size=40), st.sampled_from(["", "mqtt://", "mqtts://u:secret@"]))
def test_any_text_is_an_address_or_refused(text, start):
    try:
        found = parse_broker_url(start + text)
    except ValueError as error:
        shown = str(error)
    else:
        shown = str(found)
        assert found.host
        assert 1 <= found.port <= 65_535
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mqtt://name:word@broker", "mqtt://broker:1883"),
        ("ssl://name:word@broker:99", "mqtts://broker:99"),
        ("mqtt://[::1]", "mqtt://[::1]:1883"),
    ],
)
def test_it_is_shown_without_credentials(text, shown):
    assert str(parse_broker_url(text)) == shown


@given(
    st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True),
    st.integers(1, 65_535),
    st.booleans(),
)
def test_what_is_shown_leads_to_the_same_place(host, port, tls):
    url = BrokerUrl(host, port, tls, None, None)
    assert parse_broker_url(str(url)) == url
