"""Signs of life for a watcher outside, who raises the alarm when they fail to come.

The URL is the administrator's, who may have the watcher anywhere: the rules of webhooks are for
what users choose. It says who the server is to the watcher, so no log has it.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import structlog
from pydantic import SecretStr

from heliograph.libraries import load
from heliograph.version import VERSION

INTERVAL_SECONDS = 60.0
# All of it: the name, the connection and the answer.
CALL_SECONDS = 10.0

log = structlog.get_logger()


class HeartbeatSender:
    """Calls HEARTBEAT_URL each minute while data is taken, and no other server does."""

    def __init__(
        self,
        url: Callable[[], SecretStr | None],
        takes_data: Callable[[], Awaitable[bool]],
        given: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Call what `url` returns by then (None: nobody), while `takes_data` returns true.

        It is called once `given` has returned, which tells that it is this server's to call.
        """
        self._given = given
        self._url = url
        self._takes_data = takes_data
        self._tls: ssl.SSLContext | None = None
        self._is_failing = False

    async def run(self) -> None:
        """Call each minute, for ever."""
        while True:
            if self._given is not None:
                await self._given()
            url = self._url()
            if url is not None and await self._takes_data():
                await self._beat(url.get_secret_value())
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _beat(self, url: str) -> None:
        """Call once; tell the first failure, and the first success after one."""
        reason = await self._call(url)
        if reason is not None and not self._is_failing:
            log.warning("heartbeat not delivered", setting="HEARTBEAT_URL", reason=reason)
        elif reason is None and self._is_failing:
            log.info("heartbeat delivered again")
        self._is_failing = reason is not None

    async def _call(self, url: str) -> str | None:
        """Return why it could not be delivered; None: it was."""
        await load("httpx")
        import httpx  # noqa: PLC0415 - most servers have no watcher outside

        # Made when it is needed first: that takes longer than the rest of a server's start.
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        headers = {"User-Agent": f"heliograph/{VERSION}"}
        try:
            async with (
                asyncio.timeout(CALL_SECONDS),
                httpx.AsyncClient(
                    verify=self._tls, trust_env=False, headers=headers, timeout=CALL_SECONDS
                ) as client,
                # What it says is not read, however long it is.
                client.stream("GET", url) as answer,
            ):
                return None if answer.is_success else f"answered {answer.status_code}"
        except (TimeoutError, httpx.TimeoutException):
            return f"no answer within {CALL_SECONDS:g} s"
        except (httpx.InvalidURL, ValueError):
            return "it is no URL"  # the error would show a part of it
        except AttributeError:
            # What anyio raises of a socket that uvloop has let go of.
            return "the connection was closed at once"
        except (httpx.HTTPError, OSError) as error:
            return str(error) or type(error).__name__
