"""Channels: where a network's alerts are sent, by e-mail, webhook or chat; with what is secret."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from heliograph.address import is_mailbox
from heliograph.errors import DeliveryError
from heliograph.model.grouping import Digest
from heliograph.processing import chat, outbound
from heliograph.processing.chat import Chats
from heliograph.processing.email import MOST_RECIPIENTS, Mailer
from heliograph.processing.members import InvalidMemberError, Members, boolean, each, one_of, text
from heliograph.processing.outbound import Webhooks
from heliograph.processing.templates import (
    TemplateError,
    check,
    check_text,
    render_json,
    render_text,
)
from heliograph.secrets import Secrets
from heliograph.store.channels import ChannelDefinition, StoredChannel

# What is shown of a secret, and what keeps it where a channel is changed.
HIDDEN = "***"
LONGEST_NAME = 100
MOST_HEADERS = 20
# What the templates of a channel may speak of.
ROOTS = ("title", "text", "severity", "alerts", "network", "channel", "id")


@dataclasses.dataclass(frozen=True)
class EmailTarget:
    """E-mail addresses."""

    type: ClassVar[str] = "email"
    secret_members: ClassVar[tuple[str, ...]] = ()
    to: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class WebhookTarget:
    """A URL that is posted to, signed with the secret and with headers of one's own."""

    type: ClassVar[str] = "webhook"
    secret_members: ClassVar[tuple[str, ...]] = ("secret", "headers")
    url: str
    secret: str | None = dataclasses.field(default=None, repr=False)
    headers: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)


@dataclasses.dataclass(frozen=True)
class ChatTarget:
    """A URL of Apprise's, which holds what it takes to write there; its service is no secret."""

    type: ClassVar[str] = "apprise"
    secret_members: ClassVar[tuple[str, ...]] = ("url",)
    url: str = dataclasses.field(repr=False)
    service: str
    may_choose_host: bool


Target: TypeAlias = EmailTarget | WebhookTarget | ChatTarget
_TYPES = ("email", "webhook", "apprise")


@dataclasses.dataclass(frozen=True)
class Channel:
    """A channel as it is defined; whose it is, the store knows.

    `subject` and `body` are templates of what it is told, None: the title and text that all are
    told. The body of a webhook is JSON, of which the placeholders stay texts.
    """

    name: str
    enabled: bool
    target: Target
    subject: str | None = None
    body: Any = None

    def shown(self) -> dict[str, Any]:
        """Return the channel as it is answered, with secrets hidden."""
        target = dataclasses.asdict(self.target)
        plain = {name: target[name] for name in target if name not in self.target.secret_members}
        if "to" in plain:
            plain["to"] = list(plain["to"])
        hidden = {
            name: dict.fromkeys(value, HIDDEN) if isinstance(value, dict) else HIDDEN
            for name, value in self.secrets().items()
        }
        head = {"name": self.name, "type": self.target.type, "enabled": self.enabled}
        templates = {"subject": self.subject, "body": self.body}
        given = {name: value for name, value in templates.items() if value is not None}
        return head | plain | hidden | given

    def stored(
        self,
        secrets: Callable[[], Secrets],
        former: "Channel | None" = None,
        encrypted: str | None = None,
    ) -> ChannelDefinition:
        """Return the channel as the store keeps it; `secrets` is asked only if it has any.

        Of the same secrets as those of `former` it keeps what they were encrypted as.
        """
        found = self.secrets()
        if former is None or found != former.secrets():
            encrypted = secrets().encrypt(json.dumps(found)) if found else None
        definition = json.dumps(self.shown())
        return ChannelDefinition(self.name, self.target.type, self.enabled, definition, encrypted)

    def secrets(self) -> dict[str, Any]:
        """Return the members that are secret, in clear."""
        found = {name: getattr(self.target, name) for name in self.target.secret_members}
        return {name: value for name, value in found.items() if value}


def parse(document: Any, *, is_administrator: bool, former: Channel | None = None) -> Channel:
    """Return the channel that a JSON object defines.

    A secret that is given as `***` is that of `former`, the channel as it was, if it has the same
    type and, as far as it is a webhook's, the same URL: else who may change where a channel leads
    could have its secrets sent there.

    Raises:
        InvalidMemberError: a member is wrong; what is secret is not in the message.
    """
    members = Members(document)
    name = members.take("name", _name)
    kind = members.take("type", one_of(_TYPES))
    enabled = members.take("enabled", boolean, default=True)
    known = former.target if former is not None and former.target.type == kind else None
    target: Target
    if kind == "email":
        target = EmailTarget(members.take("to", each(_mailbox, least=1, most=MOST_RECIPIENTS)))
    elif kind == "webhook":
        target = _webhook(members, known if isinstance(known, WebhookTarget) else None)
    else:
        target = _chat(
            members, known if isinstance(known, ChatTarget) else None, is_free=is_administrator
        )
    subject = None if kind == "webhook" else members.take("subject", _subject, default=None)
    body = members.take("body", _json_body if kind == "webhook" else _body, default=None)
    members.end()
    return Channel(name, enabled, target, subject, body)


def restored(stored: StoredChannel, secrets: Callable[[], Secrets]) -> Channel:
    """Return the channel that the store keeps, which was checked when it was stored.

    Raises:
        UndecipherableError: its secrets were encrypted with a key that is not there any more.
    """
    members = json.loads(stored.definition)
    if stored.secrets is not None:
        members |= json.loads(secrets().decrypt(stored.secrets))
    name, kind, enabled = (members.pop(each) for each in ("name", "type", "enabled"))
    subject, body = (members.pop(each, None) for each in ("subject", "body"))
    target: Target
    if kind == "email":
        target = EmailTarget(tuple(members["to"]))
    elif kind == "webhook":
        target = WebhookTarget(**members)
    else:
        target = ChatTarget(**members)
    return Channel(name, enabled, target, subject, body)


def shown_url(text: str) -> str:
    """Return what is shown of a webhook's URL: many have a secret in their path or query."""
    url = outbound.check_url(text)
    rest = text.partition("://")[2].partition("/")[2]
    return f"{url.scheme}://{url.netloc.decode()}/{HIDDEN}" if rest or url.query else text


class Courier:
    """Tells channels of digests, each in its own way."""

    def __init__(self, mailer: Mailer, webhooks: Webhooks, chats: Chats) -> None:
        self.mailer = mailer
        self._webhooks = webhooks
        self._chats = chats

    async def notify(self, channel: Channel, digest: Digest, *, network: str, key: str) -> str:
        """Send a digest to a channel; return what is to be noted of it, mostly nothing.

        `key` is the same when a digest is sent again, since nobody knows whether it has arrived.

        Raises:
            DeliveryError: it was not delivered.
        """
        note = ""
        try:
            title, text = _worded(channel, digest, network, key)
        except TemplateError as error:
            # An alert is told rather in other words than not at all.
            note = f"told without the channel's templates: {error}"
            channel = dataclasses.replace(channel, subject=None, body=None)
            title, text = _worded(channel, digest, network, key)
        match channel.target:
            case EmailTarget(to):
                refused = await self.mailer.send(to, title, text, key=key)
                if refused:
                    told = f"refused for {', '.join(refused)}"
                    return f"{told}; {note}" if note else told
            case WebhookTarget(url, secret, headers):
                await self._webhooks.post(
                    url, text.encode(), secret=secret, headers=headers, key=key
                )
            case ChatTarget(url, _, may_choose_host):
                await self._chats.send(url, title, text, may_choose_host=may_choose_host)
            case _:
                raise DeliveryError(f"{channel.target.type} is no channel", is_final=True)
        return note


def _worded(channel: Channel, digest: Digest, network: str, key: str) -> tuple[str, str]:
    """Return subject and text of what a channel is told; of a webhook the text is JSON.

    Raises:
        TemplateError: what the channel's templates make is too long.
    """
    said = {**digest._asdict(), "network": network, "channel": channel.name, "id": key}
    variables = {**said, "network": {"name": network}, "channel": {"name": channel.name}}
    if isinstance(channel.target, WebhookTarget):
        return "", json.dumps(
            said if channel.body is None else render_json(channel.body, variables)
        )
    title, text = digest.title, digest.text
    if channel.subject is not None:
        title = render_text(channel.subject, variables)
    if channel.body is not None:
        text = render_text(channel.body, variables)
    return title, text


def _webhook(members: Members, former: WebhookTarget | None) -> WebhookTarget:
    url = members.take("url", webhook_url)
    if url.endswith(f"/{HIDDEN}"):
        raise _nothing_kept("url")
    known = former if former is not None and former.url == url else None
    secret = members.take("secret", _secret, default=None)
    if secret == HIDDEN:
        secret = _former("secret", known.secret if known else None)
    headers: dict[str, str] = members.take("headers", _headers, default={})
    for name, value in headers.items():
        if value == HIDDEN:
            headers[name] = _former(f"headers.{name}", known.headers.get(name) if known else None)
    return WebhookTarget(url, secret, headers)


def _chat(members: Members, former: ChatTarget | None, *, is_free: bool) -> ChatTarget:
    url = members.take("url", _secret)
    # It is part of what is shown, and so may be given back.
    members.take("service", text, default="")
    members.take("may_choose_host", boolean, default=False)
    if url == HIDDEN:
        if former is None:
            raise _nothing_kept("url")
        # Whoever may not choose a host can keep one that was chosen.
        return former
    try:
        service = chat.check_url(url, may_choose_host=is_free)
    except ValueError as error:
        raise InvalidMemberError("url", str(error)) from None
    return ChatTarget(url, service, is_free)


def _former(place: str, value: str | None) -> str:
    if value is None:
        raise _nothing_kept(place)
    return value


def _nothing_kept(place: str) -> InvalidMemberError:
    return InvalidMemberError(place, f"should be given: there is none that {HIDDEN} could keep")


def _name(value: Any, place: str) -> str:
    name = text(value, place).strip()
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise InvalidMemberError(place, f"should have 1 to {LONGEST_NAME} printable characters")
    return name


def _mailbox(value: Any, place: str) -> str:
    address = text(value, place)
    if not is_mailbox(address):
        raise InvalidMemberError(place, "should be an address like operator@example.org")
    return address


def webhook_url(value: Any, place: str) -> str:
    """Return a URL that a webhook may have."""
    url = text(value, place)
    try:
        outbound.check_url(url)
    except ValueError as error:
        raise InvalidMemberError(place, str(error)) from None
    return url


def _subject(value: Any, place: str) -> str:
    return check_text(value, place, ROOTS)


def _body(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise InvalidMemberError(place, "should be a text")
    return str(check(value, place, ROOTS))


def _json_body(value: Any, place: str) -> Any:
    return check(value, place, ROOTS)


def _secret(value: Any, place: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= chat.LONGEST_URL:
        raise InvalidMemberError(place, f"should be a text of 1 to {chat.LONGEST_URL} characters")
    return value


def _headers(value: Any, place: str) -> dict[str, str]:
    if (
        not isinstance(value, dict)
        or len(value) > MOST_HEADERS
        or not all(isinstance(text, str) for text in value.values())
    ):
        raise InvalidMemberError(
            place, f"should be an object of up to {MOST_HEADERS} names and texts"
        )
    try:
        outbound.check_headers(value)
    except ValueError as error:
        raise InvalidMemberError(place, str(error)) from None
    return dict(value)
