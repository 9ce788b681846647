"""Webhooks, posted to a server on this machine, whose names a test looks up."""

import asyncio
import hashlib
import hmac
import re
import socket
import ssl
from ipaddress import ip_address
from typing import Any

import pytest
import trustme

from heliograph.destinations import parse_destination
from heliograph.errors import DeliveryError
from heliograph.processing.outbound import Webhooks, check_headers, check_url, signature
from receiver import receiving

HERE = (parse_destination("127.0.0.1"),)


def webhooks(*names: str, **options: Any) -> Webhooks:
    """Return webhooks for which every name has these addresses, one look-up after another."""
    looked_up = iter(names)

    async def resolve(host: str, port: int) -> list[Any]:
        return [ip_address(text) for text in next(looked_up).split()]

    # What is trusted is read once, of no test's interest but those that say so.
    options = {"tls": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "allowed": HERE, **options}
    return Webhooks(resolve=resolve if names else None, **options)


async def refused(sender: Webhooks, url: str, **options: Any) -> DeliveryError:
    async with sender:
        with pytest.raises(DeliveryError) as caught:
            await sender.post(url, b"{}", **options)
    return caught.value


async def test_a_body_arrives_signed_with_its_headers(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with receiving() as receiver, webhooks("127.0.0.1") as sender:
        url = f"http://hook.test:{receiver.port}/a?b=c"
        body = b'{"value": 1}'
        own = {"X-Own": "1", "content-type": "text/plain"}
        assert await sender.post(url, body, secret="s", headers=own, key="k-1") == 204
    [request] = receiver.requests
    head, _, received = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert lines[0] == "POST /a?b=c HTTP/1.1"
    assert received == body
    assert headers["Host"] == f"hook.test:{receiver.port}"
    assert (headers["X-Own"], headers["content-type"]) == ("1", "text/plain")
    assert headers["Idempotency-Key"] == "k-1"
    assert head.lower().count(b"content-type") == head.lower().count(b"host:") == 1
    given = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", headers["X-Heliograph-Signature"])
    assert given is not None
    assert hmac.new(b"s", f"{given[1]}.".encode() + body, hashlib.sha256).hexdigest() == given[2]
    assert signature("s", body, int(given[1])) == headers["X-Heliograph-Signature"]
    assert signature("s", body, int(given[1]) + 1)[-64:] != given[2]


async def test_the_connection_is_made_to_the_very_address_that_was_checked(monkeypatch):
    # The name leads elsewhere at each look-up, as a stranger's name server may have it.
    async with receiving(host="127.0.0.1") as public, receiving(host="127.0.0.2") as inner:
        turns = iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])
        look_up = socket.getaddrinfo

        def changing(host: Any, *args: Any, **options: Any) -> Any:
            named = host in ("rebound.test", b"rebound.test")
            return look_up(next(turns) if named else host, *args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", changing)
        async with webhooks() as sender:
            url = f"http://rebound.test:{public.port}/"
            assert await sender.post(url, b"1") == 204
            with pytest.raises(DeliveryError, match=r"leads to 127\.0\.0\.2, which is not"):
                await sender.post(f"http://rebound.test:{inner.port}/", b"2")
        assert (len(public.requests), len(inner.requests)) == (1, 0)


INWARD = (
    "127.0.0.1 127.1 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 0 0.0.0.0 localhost "
    "169.254.169.254 10.0.0.1 [::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [64:ff9b::7f00:1] "
    "[2002:7f00:1::] [fe80::1] [fd00::1] 127.0.0.1. 224.0.0.1 "
)


async def test_no_form_of_an_inward_address_is_reached():
    async with receiving() as receiver, webhooks(allowed=()) as sender:
        for host in INWARD.split():
            with pytest.raises(DeliveryError) as caught:
                await sender.post(f"http://{host}:{receiver.port}/", b"{}")
            # Some systems know no such form: then it is no URL, or leads nowhere.
            told = str(caught.value)
            assert "WEBHOOK_ALLOW" in told or told.startswith("should") or not caught.value.is_final
    assert receiver.requests == []


async def test_one_inward_address_of_several_is_enough_to_be_refused():
    error = await refused(webhooks("8.8.8.8 127.0.0.1 10.0.0.1"), "http://hook.test/")
    assert str(error) == (
        "hook.test leads to 10.0.0.1, which is not of the internet; WEBHOOK_ALLOW may name it"
    )
    assert error.is_final


async def test_no_answer_leaves_a_cookie_for_the_next_request():
    cookie = b"HTTP/1.1 204 X\r\nSet-Cookie: a=b\r\n\r\n"
    async with receiving(cookie) as receiver, webhooks(*["127.0.0.1"] * 2) as sender:
        for name in ("one.test", "two.test"):
            await sender.post(f"http://{name}:{receiver.port}/", b"{}")
        assert b"cookie" not in receiver.requests[1].lower()


async def test_the_next_address_is_tried_where_nobody_listens():
    allowed = tuple(map(parse_destination, ("127.0.0.0/8",)))
    async with receiving(host="127.0.0.3") as receiver:
        async with webhooks("127.0.0.2 127.0.0.3", allowed=allowed) as sender:
            assert await sender.post(f"http://hook.test:{receiver.port}/", b"{}") == 204
        for addresses, is_final in (("127.0.0.2", False), ("", False)):
            url = f"http://hook.test:{receiver.port}/"
            assert (await refused(webhooks(addresses, allowed=allowed), url)).is_final is is_final


async def test_redirects_and_failures_are_told():
    elsewhere = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/inner\r\n\r\n"
    async with receiving() as inner:
        answers = (
            elsewhere % inner.port,
            b"HTTP/1.1 500 X\r\nContent-Length: 4\r\n\r\noops",
            b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n",
            b"no HTTP\r\n\r\n",
        )
        async with receiving(*answers) as receiver, webhooks(*["127.0.0.1"] * 4) as sender:
            told = []
            for _ in answers:
                with pytest.raises(DeliveryError) as caught:
                    await sender.post(f"http://hook.test:{receiver.port}/", b"{}")
                told.append((str(caught.value), caught.value.is_final))
        assert told[:3] == [
            ("answered 302: redirects are not followed", True),
            ("answered 500 oops", False),
            ("answered 404", False),
        ]
        assert not told[3][1]
        assert inner.requests == []


async def test_endless_and_slow_answers_end():
    endless = b"HTTP/1.1 503 X\r\n\r\nendless "
    success = b"HTTP/1.1 200 X\r\n\r\nendless "
    drop = b"HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\nslow"
    async with receiving(success, endless, None, drop, b"HTTP/1.1 100 C\r\n\r\n") as receiver:
        url = f"http://hook.test:{receiver.port}/"
        # However slow this machine is, these two end: long before the time is over.
        async with webhooks(*["127.0.0.1"] * 2, seconds=60) as sender:
            assert await sender.post(url, b"{}") == 200
            with pytest.raises(DeliveryError) as caught:
                await sender.post(url, b"{}")
            assert len(str(caught.value)) <= 1_100
            assert str(caught.value).startswith("answered 503 endless more and more")
        async with webhooks(*["127.0.0.1"] * 3, seconds=0.2) as sender:
            for _ in range(3):
                with pytest.raises(DeliveryError, match=r"no answer within 0\.2 s") as caught:
                    await sender.post(url, b"{}")
                assert not caught.value.is_final


async def test_a_connection_that_is_closed_before_it_is_used_is_tried_again_later(monkeypatch):
    # So it is under uvloop once a receiver has reset the connection: the socket is gone.
    monkeypatch.setattr("anyio._backends._asyncio.SocketStream._raw_socket", None)
    async with receiving() as receiver:
        error = await refused(webhooks("127.0.0.1"), f"http://hook.test:{receiver.port}/")
    assert str(error) == "the connection was closed at once"
    assert not error.is_final


async def test_a_name_that_is_not_found_in_time():
    async def never(host: str, port: int) -> list[Any]:
        await asyncio.get_running_loop().create_future()
        return []

    sender = Webhooks(HERE, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), resolve=never, seconds=0.1)
    assert str(await refused(sender, "http://hook.test/")) == "no answer within 0.1 s"
    async with webhooks() as sender:
        with pytest.raises(DeliveryError, match=r"^no-such-name\.invalid: ") as caught:
            await sender.post("http://no-such-name.invalid/", b"{}")
        assert not caught.value.is_final


async def test_the_certificate_is_the_names_not_the_addresss():
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hook.test").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    async with (
        receiving(tls=server) as receiver,
        webhooks("127.0.0.1", "127.0.0.1", tls=client) as sender,
    ):
        assert await sender.post(f"https://hook.test:{receiver.port}/", b"{}") == 204
        # The next is another's name, at the address that a connection was just made to.
        with pytest.raises(DeliveryError, match="certificate") as caught:
            await sender.post(f"https://other.test:{receiver.port}/", b"{}")
        assert not caught.value.is_final
        assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hook",
        "//example.org/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "http:///path",
        "http://user:password@example.org/",
        "http://user@example.org/",
        "http://example.org/\r\nX: y",
        "http://example.org/ x",
        "http://[::1/",
        "http://example.org:99999/",
        "http://example.org:0/",
        "http://example.org/" + "x" * 2_048,
    ],
)
def test_what_is_no_address_of_a_webhook(url):
    with pytest.raises(ValueError, match=r"^should "):
        check_url(url)


@pytest.mark.parametrize(
    "headers",
    [
        *({name: "x"} for name in ("Host", "content-length", "Transfer-Encoding")),
        *({name: "x"} for name in ("X-Heliograph-Signature", "A\r\nB", "A b", "")),
        {"idempotency-key": "x"},
        *({"A": value} for value in ("b\r\nC: d", "ü", "x" * 1_025)),
    ],
)
def test_headers_that_users_can_not_set(headers):
    with pytest.raises(ValueError, match=r"header's name|can't be set"):
        check_headers(headers)


async def test_what_can_not_be_sent_is_not_tried():
    async with webhooks() as sender:
        for url, headers in (("ftp://x/", {}), ("http://x/", {"Host": "y"})):
            with pytest.raises(DeliveryError) as caught:
                await sender.post(url, b"", headers=headers)
            assert caught.value.is_final
