"""Chats and push services through Apprise: those of an allow-list, each in its own process."""

import asyncio
import json
import re
import sys
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from heliograph.destinations import Destination
from heliograph.errors import DeliveryError
from heliograph.masking import mask_text
from heliograph.nearest import hint
from heliograph.processing.programs import Bounds, run

LONGEST_URL = 2_048
LONGEST_TITLE = 200
LONGEST_TEXT = 4_000
TOLD = 300
BOUNDS = Bounds(seconds=20.0, memory=1 << 30, output=64 << 10)
AT_ONCE = 2

# By Apprise's scheme, the hosts that its plugin connects to; `.x`: all below x. The rest of Apprise
# is left out: what acts on this machine (syslog, dbus, …), what is e-mail, MQTT or a webhook by
# another name, and what nobody has asked for.
SERVICES: dict[str, tuple[str, ...]] = {
    "discord": ("discord.com",),
    "gchat": ("chat.googleapis.com",),
    "line": ("api.line.me",),
    "matrix": ("matrix.org", "matrix-client.matrix.org", "webhooks.t2bot.io"),
    "matrixs": ("matrix.org", "matrix-client.matrix.org", "webhooks.t2bot.io"),
    "ntfy": ("ntfy.sh",),
    "ntfys": ("ntfy.sh",),
    "opsgenie": ("api.opsgenie.com", "api.eu.opsgenie.com"),
    "pagerduty": ("events.pagerduty.com", "events.eu.pagerduty.com"),
    "pbul": ("api.pushbullet.com",),
    "pover": ("api.pushover.net",),
    "slack": ("hooks.slack.com", "slack.com"),
    "tgram": ("api.telegram.org",),
    "threema": ("msgapi.threema.ch",),
    "twilio": ("api.twilio.com",),
    "webex": ("api.ciscospark.com", "webexapis.com"),
    "workflows": (".logic.azure.com", ".environment.api.powerplatform.com"),
    "zulip": (".zulipchat.com",),
    # Of hosts of one's own alone.
    "gotify": (),
    "gotifys": (),
    "mmost": (),
    "mmosts": (),
    "nctalk": (),
    "nctalks": (),
    "rocket": (),
    "rockets": (),
    "signal": (),
    "signals": (),
}
# Those whose URL may name a host.
NAMES_A_HOST = frozenset(
    {"matrix", "matrixs", "ntfy", "ntfys", "workflows"}
    | {name for name, hosts in SERVICES.items() if not hosts}
)
# What a URL may say behind its `?`: no files (template, attach), nor TLS, time-outs, redirects.
PARAMETERS = frozenset(
    {
        "api-version",
        "channel",
        "channels",
        "footer",
        "image",
        "mode",
        "priority",
        "region",
        "severity",
        "sig",
        "silent",
        "sound",
        "tags",
        "team",
        "thread",
        "to",
        "topic",
        "ver",
    }
)


def check_url(text: str, *, may_choose_host: bool) -> str:
    """Return the scheme of a URL of Apprise's, which may be sent to.

    `may_choose_host`: whether it may name a host that is not the service's own.

    Raises:
        ValueError: it may not; the URL, which holds secrets, is not in the message.
    """
    if len(text) > LONGEST_URL or not re.fullmatch(r"[!-~]+", text):
        raise ValueError(f"should be a URL of 1 to {LONGEST_URL} visible ASCII characters")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SERVICES:
        known = hint(scheme, SERVICES)
        raise ValueError(f"{scheme[:20]!r} is no service that notices are sent to{known}")
    try:
        parts = urlsplit(f"x://{rest}")
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        # A password or a token may look like a port.
        parts, host, port = urlsplit("x://"), "", 0
    query = rest.partition("?")[2]
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name.lower() not in PARAMETERS:
            raise ValueError(f"the parameter {name[:40]!r} can't be given{hint(name, PARAMETERS)}")
    if may_choose_host or scheme not in NAMES_A_HOST:
        return scheme
    is_lone_topic = "." not in host and port is None and not parts.path.strip("/")
    hosts = SERVICES[scheme]
    if is_lone_topic and scheme.startswith(("ntfy", "matrix")) and host:
        return scheme
    if any(host.endswith(each) if each.startswith(".") else host == each for each in hosts):
        return scheme
    own = f": {', '.join(hosts)}" if hosts else ""
    raise ValueError(f"only the administrator may choose the host of {scheme}{own}")


class Chats:
    """Sends notices to chats, a few at once, each within a bounded time."""

    def __init__(self, allowed: tuple[Destination, ...] = (), *, bounds: Bounds = BOUNDS) -> None:
        """Take what may be reached beside the internet, by those who may choose a host."""
        self._allowed = [str(each) for each in allowed]
        self._bounds = bounds
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def send(self, url: str, title: str, text: str, *, may_choose_host: bool) -> None:
        """Send a notice to where a URL of Apprise's leads.

        Raises:
            DeliveryError: it was not sent.
        """
        try:
            scheme = check_url(url, may_choose_host=may_choose_host)
        except ValueError as error:
            raise DeliveryError(str(error), is_final=True) from None
        request = {
            "url": url,
            "title": title[:LONGEST_TITLE],
            "text": text[:LONGEST_TEXT],
            "hosts": None if may_choose_host else SERVICES[scheme],
            "allowed": self._allowed,
        }
        program = (sys.executable, "-I", "-B", "-m", "heliograph.processing.chat_worker")
        async with self._turns:
            ending = await run(program, json.dumps(request).encode(), Path("/"), self._bounds)
        try:
            answer = json.loads(ending.output.splitlines()[-1])
            reason, is_final = answer["error"], answer.get("final", False)
        except (ValueError, LookupError, TypeError):
            reason, is_final = f"Apprise ended with status {ending.status}", False
        if reason is not None:
            # Apprise masks the secrets that it knows of.
            raise DeliveryError(mask_text(str(reason))[:TOLD], is_final=is_final)
