"""Channels: what is refused and in what words, what is kept secret, how each is told."""

import json
import ssl

import msgspec
import pytest

from heliograph.destinations import parse_destination
from heliograph.model.grouping import Digest
from heliograph.processing.channels import Channel, Courier, parse, restored
from heliograph.processing.chat import Chats
from heliograph.processing.email import Mailer, MailServer
from heliograph.processing.members import InvalidMemberError
from heliograph.processing.outbound import Webhooks
from heliograph.secrets import Secrets, UndecipherableError, new_key
from heliograph.store.channels import ChannelDefinition, StoredChannel
from receiver import OK, receiving
from smtp_server import smtp_server

SECRETS = Secrets([new_key()])
EMAIL = {"name": "Operators", "type": "email", "to": ["a@example.org", "b@example.org"]}
WEBHOOK = {
    "name": "Hook",
    "type": "webhook",
    "enabled": False,
    "url": "https://example.org/hook",
    "secret": "hidden-secret",
    "headers": {"Authorization": "Bearer hidden-token", "X-Two": "hidden-two"},
}
CHAT = {"name": "Chat", "type": "apprise", "url": "tgram://123:hidden-token/456"}
HERE = (parse_destination("127.0.0.1"),)


def tenants(document, former: Channel | None = None) -> Channel:
    return parse(document, is_administrator=False, former=former)


def no_key() -> Secrets:
    raise AssertionError("there is nothing to encrypt")


def kept(channel: ChannelDefinition) -> StoredChannel:
    """Return the channel as the store gives it back."""
    return StoredChannel("id", None, **msgspec.structs.asdict(channel), created_at=1, changed_at=1)


def test_what_is_secret_is_stored_encrypted_and_never_shown():
    for document in (EMAIL, WEBHOOK, CHAT):
        channel = tenants(document)
        shown = channel.shown()
        stored = kept(channel.stored(lambda: SECRETS))
        assert "hidden" not in f"{channel!r}{shown}{stored}"
        assert json.loads(stored.definition) == shown
        assert restored(stored, lambda: SECRETS) == channel
        # What is shown can be given back, and changes nothing.
        assert tenants(shown, channel) == channel
    assert tenants(EMAIL).stored(no_key).secrets is None
    assert tenants(EMAIL).shown() == {**EMAIL, "enabled": True}
    assert tenants(WEBHOOK).shown() == {
        **WEBHOOK,
        "secret": "***",
        "headers": {"Authorization": "***", "X-Two": "***"},
    }
    assert tenants(CHAT).shown() == {
        "name": "Chat",
        "type": "apprise",
        "enabled": True,
        "url": "***",
        "service": "tgram",
        "may_choose_host": False,
    }
    hook = tenants(WEBHOOK)
    stored = kept(hook.stored(lambda: SECRETS))
    with pytest.raises(UndecipherableError):
        restored(stored, lambda: Secrets([new_key()]))
    # The same secrets are not encrypted again, others are.
    renamed = tenants(hook.shown() | {"name": "Other"}, hook)
    assert renamed.stored(no_key, hook, stored.secrets).secrets == stored.secrets
    other = tenants(hook.shown() | {"secret": "another"}, hook)
    assert other.stored(lambda: SECRETS, hook, stored.secrets).secrets != stored.secrets


def test_a_secret_is_not_sent_to_where_somebody_else_has_the_channel_lead():
    former = tenants(WEBHOOK)
    shown = former.shown()
    for change, place in (
        ({"url": "https://evil.org/"}, "secret"),
        ({"url": "https://evil.org/", "secret": "own"}, "headers.Authorization"),
        ({"headers": {"X-New": "***"}}, "headers.X-New"),
    ):
        with pytest.raises(InvalidMemberError, match=r"there is none that .* could keep") as caught:
            tenants(shown | change, former)
        assert caught.value.place == place
    # Of another type, or of no channel, there is nothing to keep.
    for document in (CHAT | {"url": "***"}, shown):
        for known in (None, tenants(EMAIL)):
            with pytest.raises(InvalidMemberError):
                tenants(document, known)
    kept = tenants(shown | {"secret": "new", "headers": {"X-Two": "***"}}, former)
    assert (kept.target.secret, kept.target.headers) == ("new", {"X-Two": "hidden-two"})


def test_only_the_administrator_chooses_a_host():
    document = CHAT | {"url": "gotify://10.0.0.1/hidden"}
    with pytest.raises(InvalidMemberError, match=r"^url: only the administrator may choose"):
        tenants(document)
    with pytest.raises(InvalidMemberError):
        tenants(document | {"may_choose_host": True})
    channel = parse(document, is_administrator=True)
    assert channel.target.may_choose_host
    # An editor may rename it, and not lead it elsewhere.
    assert tenants(channel.shown() | {"name": "Other"}, channel).target == channel.target


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ([], "[] is not an object"),
        ({"type": "email", "to": ["a@b"]}, "name: is missing"),
        (EMAIL | {"name": "a\nb"}, "name: should have 1 to 100 printable characters"),
        (EMAIL | {"name": "x" * 101}, "name: should have 1 to 100 printable characters"),
        (EMAIL | {"name": 1}, "name: 1 is not a text"),
        (EMAIL | {"type": "emial"}, 'type: "emial" is not known: did you mean `email`?'),
        (EMAIL | {"enabled": "yes"}, 'enabled: "yes" is neither true nor false'),
        (EMAIL | {"to": []}, "to: has 0 items, not 1 to 50"),
        (EMAIL | {"to": ["a@b"] * 51}, "to: has 51 items, not 1 to 50"),
        (EMAIL | {"to": ["a@b", "x"]}, "to[1]: should be an address like operator@example.org"),
        (
            EMAIL | {"to": ["a@b\r\nBcc: c@d"]},
            "to[0]: should be an address like operator@example.org",
        ),
        (EMAIL | {"url": "x"}, "url: is not known"),
        (
            WEBHOOK | {"url": "ftp://x/"},
            "url: should begin with https:// or http://, a host, and its port if need be",
        ),
        (WEBHOOK | {"secret": 7}, "secret: should be a text of 1 to 2048 characters"),
        (
            WEBHOOK | {"headers": {"Host": "hidden"}},
            "headers: 'Host' can't be set",
        ),
        (
            WEBHOOK | {"headers": ["hidden"]},
            "headers: should be an object of up to 20 names and texts",
        ),
        (
            WEBHOOK | {"headers": {"A": "hidden\r\nB: c"}},
            "headers: 'A' should be a header's name, and its value visible ASCII",
        ),
        (WEBHOOK | {"secrets": "x"}, "secrets: is not known: did you mean `secret`?"),
        (
            CHAT | {"url": "tgram://hidden?template=x"},
            "url: the parameter 'template' can't be given",
        ),
        (EMAIL | {"subject": "{{titel}}"}, "subject: `titel` is not known: did you mean `title`?"),
        (EMAIL | {"body": "{{value.t}}"}, "body: `value` is not known"),
        (EMAIL | {"body": {"a": "b"}}, "body: should be a text"),
        (WEBHOOK | {"body": {"a": ["{{text"]}}, "body.a[0]: opens a placeholder by `{{`"),
        (WEBHOOK | {"body": "x" * 5_000}, "body: is longer than 4096"),
        (WEBHOOK | {"subject": "x"}, "subject: is not known"),
        (CHAT | {"url": ["hidden"]}, "url: should be a text of 1 to 2048 characters"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_told(document, line):
    with pytest.raises(InvalidMemberError) as caught:
        tenants(document)
    assert str(caught.value).startswith(line)
    assert "hidden" not in str(caught.value)


async def test_each_channel_is_told_in_its_own_way():
    digest = Digest("[warning] hot: a", "hot: raised (warning), 1 sensor: a\n", "warning", 1)
    sent = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    async with smtp_server(rcpt_b="550 no") as mails, receiving() as hook, receiving(sent) as chats:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with Webhooks(HERE, tls=tls) as webhooks:
            server = MailServer("127.0.0.1", mails.port, "none", "alerts@example.org")
            courier = Courier(Mailer(server), webhooks, Chats(HERE))
            urls = {
                "webhook": f"http://127.0.0.1:{hook.port}/x",
                "apprise": f"ntfy://127.0.0.1:{chats.port}/topic",
            }
            noted = []
            for document in (EMAIL, WEBHOOK, CHAT):
                given = {
                    **document,
                    **({"url": urls[document["type"]]} if "url" in document else {}),
                }
                channel = parse(given, is_administrator=True)
                noted.append(await courier.notify(channel, digest, network="Roof", key="k-1"))
        assert noted == ["refused for b@example.org", "", ""]
        assert mails.mails[0].message["Subject"] == digest.title
        head, _, body = hook.requests[0].partition(b"\r\n\r\n")
        assert b"\r\nX-Heliograph-Signature: t=" in head
        assert b"\r\nX-Two: hidden-two\r\n" in head
        assert b"\r\nIdempotency-Key: k-1\r\n" in head
        assert json.loads(body) == {
            "title": digest.title,
            "text": digest.text,
            "severity": "warning",
            "alerts": 1,
            "network": "Roof",
            "channel": "Hook",
            "id": "k-1",
        }
        assert json.loads(chats.requests[0].partition(b"\r\n\r\n")[2])["title"] == digest.title


async def test_templates_word_what_is_told_and_take_no_injection():
    title = 'x"}\r\nBcc: evil@example.org {{text}}'
    digest = Digest(title, "hot: raised\n", "critical", 2)
    async with smtp_server() as mails, receiving(OK, OK) as hook, Webhooks(HERE) as webhooks:
        server = MailServer("127.0.0.1", mails.port, "none", "alerts@example.org")
        courier = Courier(Mailer(server), webhooks, Chats(HERE))
        url = {"url": f"http://127.0.0.1:{hook.port}/x"}
        told = {"content": "{{title}}", "count": "{{alerts}}", "{{severity}}": ["{{id}}"]}
        subject = "{{network.name}}, {{channel.name}}: {{title}}"
        too_long = "{{text}}" * 500
        for document, long_text in (
            ({**EMAIL, "subject": subject, "body": "{{alerts}} alerts: {{text}}"}, ""),
            ({**WEBHOOK, **url, "body": told}, ""),
            ({**WEBHOOK, **url, "body": too_long}, "x" * 1_000),
        ):
            channel = parse(document, is_administrator=True)
            stored = kept(channel.stored(lambda: SECRETS))
            assert restored(stored, lambda: SECRETS) == channel
            # What is shown can be given back, and taken away.
            assert tenants(channel.shown(), channel) == channel
            sent = digest._replace(text=digest.text + long_text)
            note = await courier.notify(channel, sent, network="Roof", key="k-1")
            assert ("told without the channel's templates" in note) is bool(long_text)
    (mail,) = mails.mails
    assert mail.message["Subject"] == 'Roof, Operators: x"} Bcc: evil@example.org {{text}}'
    assert mail.message["Bcc"] is None
    assert mail.message.get_content().splitlines() == ["2 alerts: hot: raised"]
    first, second = (json.loads(each.partition(b"\r\n\r\n")[2]) for each in hook.requests)
    assert first == {"content": title, "count": 2, "critical": ["k-1"]}
    assert second["title"] == title
