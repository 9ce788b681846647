"""What takes long to import is imported in a thread, by all that send something."""

import importlib
import ssl
import threading

import pytest
from pydantic import SecretStr

from heliograph import libraries
from heliograph.errors import DeliveryError
from heliograph.heartbeat import HeartbeatSender
from heliograph.processing.email import Mailer
from heliograph.processing.outbound import Webhooks

NOBODY = "http://127.0.0.1:1/"


async def _takes_data():
    return True


async def _beat():
    sender = HeartbeatSender(lambda: SecretStr(NOBODY), _takes_data)
    assert await sender._call(NOBODY) is not None


async def _post():
    async with Webhooks() as webhooks:
        with pytest.raises(DeliveryError):
            await webhooks.post("no URL", b"")


async def _mail():
    with pytest.raises(DeliveryError):
        await Mailer(None).send(["a@example.org"], "", "", key="k")


@pytest.mark.parametrize(
    ("send", "library"), [(_beat, "httpx"), (_post, "httpx"), (_mail, "aiosmtplib")]
)
async def test_the_first_to_send_holds_nobody_up_by_importing(monkeypatch, send, library):
    monkeypatch.setattr(libraries, "_loaded", set())
    done: list[tuple[str, bool]] = []

    def note(name):
        done.append((name, threading.current_thread() is threading.main_thread()))

    monkeypatch.setattr(importlib, "import_module", note)
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr(ssl, "create_default_context", lambda: note("tls") or bare)
    await send()
    await send()
    assert (library, False) in done
    assert [name for name, _ in done].count(library) == 1, "it is there from then on"
    assert not any(is_main for _, is_main in done)
