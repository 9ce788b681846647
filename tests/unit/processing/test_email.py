"""E-mail: what is handed in to a real server, and that no text makes a header or a recipient."""

import dataclasses
import functools
import ssl
from email import message_from_bytes, policy

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from heliograph.address import is_mailbox
from heliograph.errors import DeliveryError
from heliograph.processing.email import Mailer, MailServer, compose
from smtp_server import smtp_server

SENDER, READER, OTHER = "alerts@example.org", "operator@example.org", "night+shift@example.net"
HEADERS = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type"]
HEADERS += ["Content-Transfer-Encoding", "MIME-Version"]


@functools.cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the TLS of a server that is called localhost, and of who trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return server, client


def mail_server(port: int, security: str = "none", **more: str) -> MailServer:
    return MailServer("localhost", port, security, SENDER, **more)


async def refused(mailer: Mailer, recipients: tuple[str, ...] = (READER,)) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await mailer.send(recipients, "subject", "text", key="1")
    return caught.value


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_an_email_is_handed_in_encrypted(security):
    server_tls, client_tls = contexts()
    async with smtp_server(server_tls, encrypted=security == "tls") as server:
        at = mail_server(server.port, security, username="u", password="hidden")
        assert "hidden" not in repr(at)
        mailer = Mailer(at, tls=client_tls)
        text = "The boiler is 96 °C.\n.\n..\r\nQUIT\n" + "x" * 2_000
        assert await mailer.send([READER, OTHER], "Boiler: too hot ☀", text, key="1") == []
        [mail] = server.mails
        assert (mail.sender, mail.recipients) == (SENDER, [READER, OTHER])
        assert (mail.login, mail.is_encrypted) == ("\0u\0hidden", True)
        assert mail.message["Subject"] == "Boiler: too hot ☀"
        assert mail.message["To"] == f"{READER}, {OTHER}"
        assert mail.message.get_content().splitlines() == text.splitlines()
        assert mail.content.isascii()
        assert max(map(len, mail.content.splitlines())) <= 998
        # Nobody who is not who they say they are gets a word of it.
        for other in (
            Mailer(at),
            Mailer(dataclasses.replace(at, host="127.0.0.1"), tls=client_tls),
        ):
            assert not (await refused(other)).is_final
        assert len(server.mails) == 1


async def test_without_tls_nothing_is_said():
    _, client_tls = contexts()
    async with smtp_server() as server:
        at = mail_server(server.port, "starttls", username="u", password="hidden")
        assert "STARTTLS" in str(await refused(Mailer(at, tls=client_tls)))
        assert [line.split()[0] for line in server.commands] in (["EHLO"], ["EHLO", "QUIT"])
        # On this machine it may be done without.
        assert await Mailer(mail_server(server.port)).send([READER], "s", "t", key="1") == []
        assert not server.mails[0].is_encrypted
    for host in ("mail.example.org", "192.168.1.5"):
        with pytest.raises(ValueError, match="without TLS on this machine only"):
            Mailer(MailServer(host, 25, "none", SENDER))


async def test_what_is_refused_is_told():
    for answers, told, is_final in (
        ({"mail": "550 not you"}, "550 not you", True),
        ({"mail": "451 later"}, "451 later", False),
        ({"auth": "535 wrong"}, "535 wrong", True),
        ({"rcpt": "550 nobody"}, f"{READER}: nobody", True),
        ({"rcpt": "450 full"}, f"{READER}: full", False),
        ({"data": "554 no"}, "554 no", True),
        ({"mail": "hello"}, "hello", False),
        ({"data": None}, "no answer within 0.2 s", False),
        ({"ehlo": None}, "no answer within 0.2 s", False),
    ):
        async with smtp_server(**answers) as server:
            at = mail_server(server.port, username="u", password="p")
            error = await refused(Mailer(at, seconds=0.2 if "within" in told else 30))
            assert told in str(error), answers
            assert error.is_final is is_final, answers
            assert server.mails == []
    assert not (await refused(Mailer(mail_server(server.port)))).is_final  # nobody listens any more
    assert str(await refused(Mailer(None))) == "no e-mail is sent: SMTP_HOST is not set"


async def test_one_refused_recipient_keeps_no_other_from_being_told():
    async with smtp_server(rcpt_operator="550 nobody") as server:
        mailer = Mailer(mail_server(server.port))
        assert await mailer.send([READER, OTHER], "s", "t", key="1") == [READER]
        assert server.mails[0].recipients == [OTHER]


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(
    st.sampled_from(
        ["\r", "\n", "\0", "\x85", "\u2028", "Bcc: x@y.z", ": ", ".", " ", "=?utf-8?q?=0D?="]
    )
).map("".join)


@given(ANY_TEXT, ANY_TEXT)
def test_no_text_makes_a_header_or_ends_the_email(subject, text):
    content = compose(SENDER, [READER], subject, text, "key").as_bytes()
    read = message_from_bytes(content, policy=policy.default)
    assert read.keys() == HEADERS
    assert (read["From"], read["To"]) == (SENDER, READER)
    head, _, body = content.partition(b"\r\n\r\n")
    lines = [line for line in head.decode().split("\r\n") if not line.startswith((" ", "\t"))]
    assert [line.partition(":")[0] for line in lines] == HEADERS
    assert content.replace(b"\r\n", b"").count(b"\r") == 0
    assert content.replace(b"\r\n", b"").count(b"\n") == 0
    assert b"\0" not in content
    assert content.isascii()
    assert body.endswith(b"\r\n")


def test_a_repeat_has_the_same_identifier_and_no_absence_answers():
    first, again, other = (compose(SENDER, [READER], "s", "t", key) for key in ("1", "1", "2"))
    assert first["Message-ID"] == again["Message-ID"] != other["Message-ID"]
    assert first["Auto-Submitted"] == "auto-generated"


def test_what_is_an_address():
    good = [READER, OTHER, "a@b", "o'neil@example.org", "x" * 64 + "@example.org"]
    bad = ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@b c", "a@b\n", "a@b\r\nRCPT TO:<x@y>", "<a@b>"]
    bad += ["a,b@c", "a@b,c@d", "a@-b", "a@b-", "a@b..c", ".a@b", "a..b@c", "a.@b", "ü@b", "a@ü"]
    bad += ['"a b"@c', "a@[127.0.0.1]", "x" * 65 + "@b", "a@" + "b." * 130 + "c", "A <a@b>"]
    assert [text for text in good if not is_mailbox(text)] == []
    assert [text for text in bad if is_mailbox(text)] == []
    for text in bad:
        with pytest.raises(ValueError, match="is no e-mail address"):
            compose(SENDER, [READER, text], "s", "t", "key")


async def test_no_connection_is_made_for_what_is_no_address():
    async with smtp_server() as server:
        error = await refused(Mailer(mail_server(server.port)), (READER, "a@b\r\nDATA"))
        assert error.is_final
        assert server.commands == []
