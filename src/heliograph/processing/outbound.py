"""Webhooks: a POST to where users choose, from a machine that reaches more than they do.

The name is looked up here, once; every address is checked, and the connection is made to one of
the very addresses that were, so that a name that changes in between leads nowhere else. TLS still
checks the certificate against the name. No redirect is followed, no proxy of the environment used.
"""

import asyncio
import hashlib
import hmac
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import TYPE_CHECKING, Self, TypeAlias

from heliograph.destinations import Destination, IpAddress, may_reach
from heliograph.errors import DeliveryError
from heliograph.libraries import load
from heliograph.version import VERSION

if TYPE_CHECKING:
    import httpx

# What reads URLs: to be loaded before `check_url` is called where nothing may wait.
URLS = "httpx"
SIGNATURE = "X-Heliograph-Signature"
IDEMPOTENCY_KEY = "Idempotency-Key"
LONGEST_URL = 2_048
WHOLE_SECONDS = 15.0
STEP_SECONDS = 5.0
READ_SECONDS = 10.0
RESOLVE_SECONDS = 5.0
# What is kept of an answer that is no success.
LONGEST_ANSWER = 1_024
ANSWER_SECONDS = 2.0
AT_ONCE = 16
# A name with more addresses is tried on so many.
MOST_ADDRESSES = 3
RESOLVERS = 4

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_TEXT = re.compile(r"[\x20-\x7e]{0,1024}")
_OURS = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "accept-encoding",
        "user-agent",
        SIGNATURE.lower(),
        IDEMPOTENCY_KEY.lower(),
    }
)
Resolver: TypeAlias = Callable[[str, int], Awaitable[list[IpAddress]]]


def check_url(text: str) -> "httpx.URL":
    """Return the URL of a webhook. It is not looked up: where it leads is checked at each delivery.

    Raises:
        ValueError: it is none.
    """
    import httpx  # noqa: PLC0415 - most servers have no webhooks

    if len(text) > LONGEST_URL or not re.fullmatch(r"[!-~]+", text):
        raise ValueError(f"should be a URL of 1 to {LONGEST_URL} visible ASCII characters")
    if "{{" in text:
        raise ValueError("has a placeholder: only what is sent may have one")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        raise ValueError("should be a URL like https://example.org/hook") from None
    if url.scheme not in ("http", "https") or not url.host or not 0 < _port(url) < 1 << 16:
        raise ValueError("should begin with https:// or http://, a host, and its port if need be")
    if url.userinfo:
        raise ValueError("should have no user name or password; use a header")
    return url


def check_headers(headers: Mapping[str, str]) -> None:
    """Check the headers that a webhook is sent with beside our own.

    Raises:
        ValueError: one can't be sent, or is not for users to set; it is named, its value is not.
    """
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or not _TEXT.fullmatch(value):
            raise ValueError(
                f"{name[:64]!r} should be a header's name, and its value visible ASCII"
            )
        if name.lower() in _OURS:
            raise ValueError(f"{name!r} can't be set")


def signature(secret: str, body: bytes, at: int) -> str:
    """Return the header by which a receiver knows that a body is ours, and not an old one.

    `at` is in seconds; signed is its text, a dot and the body, by HMAC-SHA256.
    """
    digest = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


class Webhooks:
    """Posts to the URLs of users; so many at once, each within a bounded time."""

    def __init__(
        self,
        allowed: tuple[Destination, ...] = (),
        *,
        tls: ssl.SSLContext | None = None,
        resolve: Resolver | None = None,
        seconds: float = WHOLE_SECONDS,
    ) -> None:
        self._allowed = allowed
        self._seconds = seconds
        self._turns = asyncio.Semaphore(AT_ONCE)
        # Of its own: a name server that does not answer must not hold up what else uses threads.
        self._threads = ThreadPoolExecutor(RESOLVERS, "webhook names")
        self._resolve = resolve or self._look_up
        self._tls = tls
        # Made when it is needed first: that takes longer than the rest of a server's start.
        self._made: httpx.AsyncClient | None = None

    async def _client(self) -> "httpx.AsyncClient":
        from http.cookiejar import CookieJar, DefaultCookiePolicy  # noqa: PLC0415 - with httpx

        import httpx  # noqa: PLC0415 - see above

        # Whom the system trusts is a file of hundreds of certificates.
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        if self._made is None:
            # A connection kept would be taken for another name with the same address.
            self._made = httpx.AsyncClient(
                verify=self._tls,
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(STEP_SECONDS, read=READ_SECONDS),
                # To the client two names with one address are one host.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
                limits=httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=0),
            )
        return self._made

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._made is not None:
            await self._made.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def post(
        self,
        url: str,
        body: bytes,
        *,
        secret: str | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        content_type: str = "application/json",
    ) -> int:
        """Post the body and return the status of the answer, a success.

        `key` is the same when a body is posted again, so that its receiver can know that.

        Raises:
            DeliveryError: it was not delivered, or the answer is no success.
        """
        await load(URLS)
        import httpx  # noqa: PLC0415 - see above

        try:
            target = check_url(url)
            check_headers(headers or {})
        except ValueError as error:
            raise DeliveryError(str(error), is_final=True) from None
        sent = httpx.Headers({"Content-Type": content_type, "Accept-Encoding": "identity"})
        sent["User-Agent"] = f"heliograph/{VERSION}"
        sent.update(headers)
        if key is not None:
            sent[IDEMPOTENCY_KEY] = key
        if secret is not None:
            sent[SIGNATURE] = signature(secret, body, int(time.time()))
        try:
            async with self._turns, asyncio.timeout(self._seconds):
                return await self._send(target, body, sent)
        except TimeoutError:
            raise DeliveryError(f"no answer within {self._seconds:g} s") from None

    async def _send(self, url: "httpx.URL", body: bytes, headers: "httpx.Headers") -> int:
        import httpx  # noqa: PLC0415 - see above

        failure: httpx.TransportError | None = None
        for address in await self._addresses(url):
            try:
                return await self._send_to(address, url, body, headers)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
            except httpx.TransportError as error:
                failure = error
                break
            except (httpx.InvalidURL, httpx.HTTPError, ValueError) as error:
                raise DeliveryError(_told(error), is_final=True) from error
        raise DeliveryError(_told(failure)) from failure

    async def _addresses(self, url: "httpx.URL") -> list[IpAddress]:
        """Return the addresses of the URL's host, each of which may be connected to."""
        port = _port(url)
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                addresses = await self._resolve(url.host, port)
        except (OSError, UnicodeError) as error:
            raise DeliveryError(f"{url.host}: {_told(error)}") from error
        for address in addresses:
            if not may_reach(url.host, address, port, self._allowed):
                raise DeliveryError(
                    f"{url.host} leads to {address}, which is not of the internet;"
                    " WEBHOOK_ALLOW may name it",
                    is_final=True,
                )
        if not addresses:
            raise DeliveryError(f"{url.host} has no address")
        return addresses[:MOST_ADDRESSES]

    async def _look_up(self, host: str, port: int) -> list[IpAddress]:
        def look_up() -> list[IpAddress]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(ip_address(at[0]) for *_, at in found))

        return await asyncio.get_running_loop().run_in_executor(self._threads, look_up)

    async def _send_to(
        self, address: IpAddress, url: "httpx.URL", body: bytes, headers: "httpx.Headers"
    ) -> int:
        import httpx  # noqa: PLC0415 - see above

        headers["Host"] = url.netloc.decode("ascii")
        # What TLS greets, and checks the certificate against, if it is a name.
        greeted = {"sni_hostname": url.host} if _is_name(url.host) else {}
        client = await self._client()
        request = client.build_request(
            "POST",
            url.copy_with(host=str(address)),
            content=body,
            headers=headers,
            extensions=greeted,
        )
        try:
            response = await client.send(request, stream=True)
        except AttributeError as error:
            # Of a connection that is closed before it is used anyio looks for the socket, which
            # uvloop has let go of.
            raise httpx.RemoteProtocolError("the connection was closed at once") from error
        try:
            if response.is_success:
                return response.status_code
            if response.is_redirect:
                raise DeliveryError(
                    f"answered {response.status_code}: redirects are not followed", is_final=True
                )
            beginning = await _beginning(response)
            raise DeliveryError(f"answered {response.status_code} {beginning}".rstrip())
        finally:
            await response.aclose()


async def _beginning(response: "httpx.Response") -> str:
    """Return what the answer begins with, or as much of it as comes in time."""
    import httpx  # noqa: PLC0415 - see above

    content = b""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            async for part in response.aiter_raw(LONGEST_ANSWER):
                content += part
                if len(content) >= LONGEST_ANSWER:
                    break
    except (TimeoutError, httpx.HTTPError):
        pass  # the status says enough
    return content[:LONGEST_ANSWER].decode("utf-8", "replace")


def _port(url: "httpx.URL") -> int:
    return url.port if url.port is not None else (443 if url.scheme == "https" else 80)


def _is_name(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def _told(error: BaseException | None) -> str:
    return str(error) or type(error).__name__
