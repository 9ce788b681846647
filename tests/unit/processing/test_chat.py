"""Chats: what may be sent where, and that the process which sends can do nothing else."""

import asyncio
import json
import os
import sys

import apprise
import pytest

from heliograph.destinations import parse_destination
from heliograph.errors import DeliveryError
from heliograph.processing import chat_worker
from heliograph.processing.chat import (
    BOUNDS,
    NAMES_A_HOST,
    PARAMETERS,
    SERVICES,
    Chats,
    check_url,
)
from heliograph.processing.chat_worker import Guard, RefusedError
from receiver import receiving

HERE = (parse_destination("127.0.0.1"),)
SENT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def failure(chats: Chats, url: str, *, may_choose_host: bool = True) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await chats.send(url, "title", "text", may_choose_host=may_choose_host)
    return caught.value


# The first, since all of Apprise is compiled as it is read: the processes that send may write no
# file, and would each compile it anew.
def test_the_services_are_apprises():
    known = {
        scheme: service["details"]
        for service in apprise.Apprise().details()["schemas"]
        for scheme in (*(service["protocols"] or ()), *(service["secure_protocols"] or ()))
    }
    assert set(SERVICES) <= set(known)
    with_host = {scheme for scheme in SERVICES if "host" in known[scheme]["tokens"]}
    assert with_host == NAMES_A_HOST
    # Of what every plugin takes nothing but its own affair may be given.
    assert not PARAMETERS & set(known["ntfy"]["args"]) - {"image", "mode", "priority", "to"}


async def test_a_notice_is_sent_where_it_may_be_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with receiving() as inner:
        redirect = b"HTTP/1.1 302 F\r\nContent-Length: 0\r\nLocation: http://127.0.0.1:%d/\r\n\r\n"
        answers = (SENT, redirect % inner.port, b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        async with receiving(*answers) as receiver, receiving(None) as silent:
            url = f"ntfy://user:hidden@127.0.0.1:{receiver.port}/boiler?priority=high"
            chats = Chats(HERE)
            await chats.send(url, "Boiler", 'It\'s <b>hot</b>: "96" °C', may_choose_host=True)
            head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
            assert head.startswith(b"POST / HTTP/1.1\r\n")
            sent = json.loads(body)
            assert (sent["topic"], sent["title"]) == ("boiler", "Boiler")
            assert sent["message"] == 'It\'s <b>hot</b>: "96" °C'
            quick = Chats(HERE, bounds=BOUNDS._replace(seconds=1.5))
            redirected = await failure(chats, url)
            slow, refused, inward = await asyncio.gather(
                failure(quick, f"ntfy://127.0.0.1:{silent.port}/boiler"),
                failure(chats, url),
                failure(Chats(()), f"ntfy://127.0.0.1:{inner.port}/boiler"),
            )
    assert inner.requests == []
    assert not redirected.is_final
    assert (str(slow), slow.is_final) == ("ended after 1.5 s, which is all it may take", False)
    assert "403" in str(refused)
    assert "hidden" not in str(refused) + str(redirected)
    assert inward.is_final
    assert str(inward) == (
        "127.0.0.1 leads to 127.0.0.1, which is not of the internet; WEBHOOK_ALLOW may name it"
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("dbus://", "'dbus' is no service"),
        ("syslog://", "'syslog' is no service"),
        ("macosx://", "'macosx' is no service"),
        ("json://example.org/", "'json' is no service"),
        ("https://discord.com/api/webhooks/1/2", "'https' is no service"),
        ("mailto://a:b@example.org", "'mailto' is no service"),
        ("telegram://token", "is no service"),
        ("discrod://1/2", "did you mean `discord`"),
        ("no url", "visible ASCII"),
        ("discord", "is no service"),
        ("tgram://1/2\r\nx", "visible ASCII"),
        ("tgram://" + "x" * 2_048, "visible ASCII"),
        ("tgram://1:a/2?template=/etc/passwd", "the parameter 'template' can't be given"),
        ("slack://a/b/c?Template=/etc/passwd", "the parameter 'Template' can't be given"),
        ("ntfys://topic?attach=file:///etc/passwd", "the parameter 'attach' can't be given"),
        ("ntfys://topic?verify=no", "the parameter 'verify' can't be given"),
        ("ntfys://topic?priority=1&redirect=yes", "the parameter 'redirect' can't be given"),
        ("ntfys://topic?%72edirect=yes", "the parameter 'redirect' can't be given"),
        ("ntfys://topic?+Host=x", "the parameter"),
        ("ntfys://x?rto=9999", "the parameter 'rto' can't be given"),
    ],
)
def test_what_nobody_may_send_to(url, reason):
    with pytest.raises(ValueError, match=reason):
        check_url(url, may_choose_host=True)


def test_who_may_choose_a_host():
    own = ["discord://1/2", "tgram://1:a/2", "slack://a/b/c/#d", "pover://u@t", "ntfy://topic"]
    own += ["ntfys://ntfy.sh/topic", "ntfys://tk_x@ntfy.sh/topic", "matrixs://token"]
    own += ["matrixs://u:p@matrix.org/#room", "zulip://bot@org/token"]
    own += ["workflows://x.westeurope.logic.azure.com:443/w/s"]
    free = ["ntfy://10.0.0.1/topic", "ntfys://ntfy.sh.evil.org/t", "ntfy://topic:80", "ntfy://a/b"]
    free += ["ntfys://ntfy.sh@evil.org/t", "matrixs://u:p@evil.org/#r", "gotify://host/token"]
    free += ["mmosts://host/token", "rockets://u:p@host/x", "nctalks://u:p@host/x", "ntfy://"]
    free += ["workflows://logic.azure.com.evil.org/w/s", "signal://host/+1", "ntfy://[::1]/t"]
    free += ["gotifys://lone", "ntfy://127.0.0.1", "ntfy://u:p:x@h/t"]
    for url in own:
        assert check_url(url, may_choose_host=False) == url.partition(":")[0]
    for url in free:
        assert check_url(url, may_choose_host=True) == url.partition(":")[0]
        with pytest.raises(ValueError, match="only the administrator may choose the host"):
            check_url(url, may_choose_host=False)


def test_the_guard_lets_a_notice_out_and_nothing_else():
    guard = Guard(("ntfy.sh", ".azure.com"), HERE)
    guard.check("socket.getaddrinfo", ("ntfy.sh", 443, 0, 1, 0))
    guard.check("socket.getaddrinfo", (b"x.AZURE.com.", 443, 0, 1, 0))
    guard.check("socket.connect", (None, ("8.8.8.8", 443)))
    guard.check("socket.connect", (None, ("127.0.0.1", 80)))
    guard.check("socket.connect", (None, ("2606:4700::1", 443, 0, 0)))
    guard.check("open", ("certificates", "rb", os.O_RDONLY))
    for event, *arguments in [
        ("socket.getaddrinfo", "evil.org", 443, 0, 1, 0),
        ("socket.getaddrinfo", "ntfy.sh.evil.org", 443, 0, 1, 0),
        ("socket.getaddrinfo", "azure.com", 443, 0, 1, 0),
        ("socket.connect", None, ("127.0.0.2", 80)),
        ("socket.connect", None, ("169.254.169.254", 80)),
        ("socket.connect", None, ("::1", 80, 0, 0)),
        ("socket.connect", None, "/run/docker.sock"),
        ("subprocess.Popen", "sh", ["sh"], None, None),
        ("os.system", b"true"),
        ("open", "x", "w", os.O_WRONLY),
        ("open", "x", None, os.O_RDWR),
    ]:
        with pytest.raises(RefusedError):
            guard.check(event, tuple(arguments))
    assert len(guard.refusals) == 11
    Guard(None, ()).check("socket.getaddrinfo", ("evil.org", 443, 0, 1, 0))


def test_without_apprise_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    answer = chat_worker.send({})
    assert answer == {
        "error": "chats need the package apprise: pip install 'heliograph[apprise]'",
        "final": True,
    }
