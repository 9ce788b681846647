"""Secrets are in no log, error, metric, setting or entry of the audit log, whatever goes wrong."""

import logging

import pytest

from heliograph import logs
from ports import free_port
from receiver import receiving
from server import eventually

ADMIN = {"x-api-key": "an-admin-key-for-tests-only"}
METRICS, BROKER, HEARTBEAT = "canary-metrics-token", "canary-broker-password", "canary-heartbeat"
WRONG, PASSWORD, CHANNEL = "canary-wrong-key", "canary-password-1", "canary-channel-secret"
SECRETS = [METRICS, BROKER, HEARTBEAT, WRONG, PASSWORD, CHANNEL, ADMIN["x-api-key"]]


@pytest.mark.usefixtures("restored_logging")
async def test_no_secret_is_shown_anywhere(site, tmp_path, monkeypatch):
    # As in a process of its own, where nobody has silenced it before.
    logging.getLogger("httpx").setLevel(logging.NOTSET)
    file = tmp_path / "server.log"
    async with (
        receiving() as watcher,
        site(
            mqtt_url=f"mqtt://name:{BROKER}@127.0.0.1:{free_port()}",
            heartbeat_url=f"http://127.0.0.1:{watcher.port}/{HEARTBEAT}",
            metrics_token=METRICS,
            log_file=str(file),
            log_level="debug",
        ) as here,
    ):
        shown = []

        async def ask(method, path, headers=None, **more):
            answer = await here.http.request(method, path, headers=headers or ADMIN, **more)
            shown.append(answer.text)
            return answer

        await eventually(lambda: watcher.requests)
        wrong = {"x-api-key": WRONG}
        assert (await ask("GET", "/sensors", wrong)).status_code == 401
        assert (await ask("POST", "/ingest", wrong, json={"t": 1})).status_code == 401
        bearer = {"authorization": f"Bearer {WRONG}"}
        assert (await ask("GET", "/metrics", bearer)).status_code == 401
        assert (await ask("GET", f"/events?ticket={WRONG}", {})).status_code == 401
        assert (await ask("GET", f"/sensors?token={WRONG}")).status_code == 422
        # Where nothing tells that it is one.
        for secret in (METRICS, ADMIN["x-api-key"]):
            await ask("GET", f"/nowhere/{secret}")
        user = {"username": "canary", "password": PASSWORD}
        assert (await ask("POST", "/users", json=user)).status_code == 201
        assert (await ask("POST", "/users", json=user)).status_code == 409
        url = "http://127.0.0.1:1/"
        body = {"name": "hook", "type": "webhook", "url": url, "secret": CHANNEL}
        assert (await ask("POST", "/channels", json=body)).status_code == 201
        # A defect, with its traceback.
        monkeypatch.setattr(here.services.store.networks, "list", lambda **_: 1 / 0)
        assert (await ask("GET", "/networks")).status_code == 500
        assert (await ask("GET", "/metrics", {"authorization": f"Bearer {METRICS}"})).text
        for path in ("/readyz", "/audit", "/channels", "/status"):
            await ask("GET", path)
        shown.append(str(here.services.settings.masked()))
        shown.append(repr(here.services.settings))
    logs.configure()
    text = file.read_text()
    assert "Traceback" in text
    assert "request answered" in text
    shown.append(text)
    for secret in SECRETS:
        found = [each.partition(secret) for each in shown if secret in each]
        assert not [before[-80:] + secret + after[:40] for before, _, after in found]
