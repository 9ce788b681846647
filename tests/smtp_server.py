"""A small SMTP server, which keeps what is handed in and refuses what the test says."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import NamedTuple


class HandedIn(NamedTuple):
    """What came in one transaction, and whether it was encrypted."""

    sender: str
    recipients: list[str]
    content: bytes
    login: str | None
    is_encrypted: bool

    @property
    def message(self) -> EmailMessage:
        found = message_from_bytes(self.content, policy=policy.default)
        assert isinstance(found, EmailMessage)
        return found


class SmtpServer:
    """Answers as SMTP has it; `answers` has, by the beginning of a command, another answer."""

    def __init__(self, tls: ssl.SSLContext | None = None, **answers: str | None):
        self.tls = tls
        self.answers = answers
        self.mails: list[HandedIn] = []
        self.commands: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            await self._converse(reader, writer)
        writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        login: str | None = None
        sender, recipients = "", []
        writer.write(b"220 mail.test ESMTP\r\n")
        while line := (await reader.readline()).decode().rstrip("\r\n"):
            self.commands.append(line)
            verb, _, rest = line.partition(" ")
            verb = verb.lower()
            known = next((key for key in self.answers if _matches(key, line)), None)
            is_encrypted = writer.get_extra_info("ssl_object") is not None
            if known is not None:
                answer = self.answers[known]
                if answer is None:
                    await reader.read()  # says nothing more
                    return
                writer.write(f"{answer}\r\n".encode())
            elif verb == "ehlo":
                offered = "" if is_encrypted or self.tls is None else "250-STARTTLS\r\n"
                writer.write(f"250-mail.test\r\n{offered}250 AUTH PLAIN\r\n".encode())
            elif verb == "starttls":
                writer.write(b"220 go on\r\n")
                assert self.tls is not None
                await writer.start_tls(self.tls)
            elif verb == "auth":
                login = base64.b64decode(rest.split()[1]).decode()
                writer.write(b"235 welcome\r\n")
            elif verb == "mail":
                sender = rest.split("<")[1].split(">")[0]
                writer.write(b"250 ok\r\n")
            elif verb == "rcpt":
                recipients.append(rest.split("<")[1].split(">")[0])
                writer.write(b"250 ok\r\n")
            elif verb == "data":
                writer.write(b"354 go on\r\n")
                content = await reader.readuntil(b"\r\n.\r\n")
                content = content[:-3].replace(b"\r\n..", b"\r\n.")
                self.mails.append(HandedIn(sender, recipients, content, login, is_encrypted))
                writer.write(b"250 kept\r\n")
            elif verb == "quit":
                writer.write(b"221 bye\r\n")
                return
            else:
                writer.write(b"500 what?\r\n")


def _matches(key: str, line: str) -> bool:
    verb, _, of = key.partition("_")
    return line.lower().startswith(verb) and of in line.lower()


@contextlib.asynccontextmanager
async def smtp_server(
    tls: ssl.SSLContext | None = None, *, encrypted: bool = False, **answers: str | None
) -> AsyncIterator[SmtpServer]:
    """Run a server with STARTTLS if there is a context, or with TLS from the first byte."""
    server = SmtpServer(tls, **answers)
    listening = await asyncio.start_server(
        server.serve, "127.0.0.1", 0, ssl=tls if encrypted else None
    )
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
