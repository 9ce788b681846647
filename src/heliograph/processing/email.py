"""E-mail by one SMTP server, the administrator's: recipients choose neither server nor sender."""

import asyncio
import contextlib
import dataclasses
import hashlib
import re
import socket
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from email.utils import formatdate

from heliograph.address import is_loopback, is_mailbox
from heliograph.errors import DeliveryError
from heliograph.libraries import load

LONGEST_SUBJECT = 200
LONGEST_TEXT = 64 << 10
MOST_RECIPIENTS = 50
STEP_SECONDS = 10.0
WHOLE_SECONDS = 30.0
QUIT_SECONDS = 2.0
AT_ONCE = 4

# Whatever may end a line for anybody who reads it: controls, and Unicode's own separators.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclasses.dataclass(frozen=True)
class MailServer:
    """Where e-mail is handed in, and as whose; `security` is starttls, tls or none."""

    host: str
    port: int
    security: str
    sender: str
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)


def compose(
    sender: str, recipients: Sequence[str], subject: str, text: str, key: str
) -> EmailMessage:
    """Return an e-mail of plain text, of which no header is made of what the texts hold.

    Of the same key it has the same Message-ID, by which a repeated delivery is one to its readers.

    Raises:
        ValueError: an address is none.
    """
    for address in (sender, *recipients):
        if not is_mailbox(address):
            raise ValueError(f"{address[:254]!r} is no e-mail address like operator@example.org")
    message = EmailMessage(policy=WIRE)
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    # Python decodes what looks like an encoded word, with the line ends that one may hold.
    plain = _CONTROLS.sub(" ", subject).replace("=?", "= ?").strip()
    message["Subject"] = plain[:LONGEST_SUBJECT] or "(none)"
    message["Date"] = formatdate(usegmt=True)
    identifier = hashlib.sha256(key.encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{identifier}@{sender.partition('@')[2]}>"
    # So that no absence is answered to it.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n".join(text[:LONGEST_TEXT].splitlines()) + "\n", cte="quoted-printable")
    return message


class Mailer:
    """Hands e-mail in, a few at once, each within a bounded time."""

    def __init__(
        self,
        server: MailServer | None,
        *,
        tls: ssl.SSLContext | None = None,
        seconds: float = WHOLE_SECONDS,
    ) -> None:
        """Take the server (None: no e-mail is sent), and whom TLS trusts (None: the system's)."""
        if server is not None and server.security == "none" and not is_loopback(server.host):
            raise ValueError("e-mail is handed in without TLS on this machine only")
        self._server = server
        self._tls = tls
        self._seconds = seconds
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def send(
        self, recipients: Sequence[str], subject: str, text: str, *, key: str
    ) -> list[str]:
        """Hand an e-mail in; return the recipients that the server refused, where it took others.

        Raises:
            DeliveryError: it was not handed in, or may not have been.
        """
        await load("aiosmtplib")
        import aiosmtplib  # noqa: PLC0415 - most servers send none

        server = self._server
        if server is None:
            raise DeliveryError("no e-mail is sent: SMTP_HOST is not set", is_final=True)
        try:
            message = compose(server.sender, recipients, subject, text, key)
        except ValueError as error:
            raise DeliveryError(str(error), is_final=True) from None
        try:
            async with self._turns, asyncio.timeout(self._seconds):
                return await self._hand_in(server, message, recipients)
        except TimeoutError as error:
            raise DeliveryError(str(error) or f"no answer within {self._seconds:g} s") from None
        except aiosmtplib.SMTPResponseException as error:
            is_final = 500 <= error.code < 600
            raise DeliveryError(f"{error.code} {error.message}", is_final=is_final) from error
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [each.code for each in error.recipients]
            refused = "; ".join(f"{each.recipient}: {each.message}" for each in error.recipients)
            raise DeliveryError(refused, is_final=min(codes) >= 500) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise DeliveryError(str(error) or type(error).__name__) from error

    async def _hand_in(
        self, server: MailServer, message: EmailMessage, recipients: Sequence[str]
    ) -> list[str]:
        import aiosmtplib  # noqa: PLC0415 - see above

        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.security == "tls",
            # Not None, which would go on without TLS where none is offered.
            start_tls=server.security == "starttls",
            tls_context=self._tls,
            username=server.username,
            password=server.password,
            timeout=STEP_SECONDS,
            # Else asked of a name server, on the loop.
            local_hostname=socket.gethostname().encode("ascii", "replace").decode("ascii"),
        )
        try:
            await client.connect()
            refused, _ = await client.sendmail(server.sender, list(recipients), message.as_bytes())
            # It is handed in: that the server is slow to say goodbye makes no failure of it.
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=QUIT_SECONDS)
        finally:
            client.close()
        return list(refused)
