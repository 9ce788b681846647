"""Settings that change while the server runs: `GET /rereadenv`, as document 003 has it."""

import contextlib
import json
import logging

import pytest

from heliograph import logs
from heliograph.model.principal import Principal
from integration.http.conftest import ADMIN, PASSWORD
from mqtt_client import Client, publish, published, subscribe

# It calls what other tests cover.
pytestmark = [pytest.mark.uncovered, pytest.mark.usefixtures("restored_logging")]

PREFIXES = ("", "/api/v1")
TOKEN = "a-token-for-the-tests-only"
WRONG = {"x-api-key": "no-such-key"}


@pytest.fixture
async def here(site, tmp_path, monkeypatch):
    """The running server, and the `.env` that it reads."""
    monkeypatch.chdir(tmp_path)
    async with site(mqtt_listen="127.0.0.1:0") as running:
        running.env = tmp_path / ".env"
        # What the tests' servers are given would win over it.
        del running.services.running_settings._given._given["rate_limit_failed_logins"]
        await applied(running)
        yield running
    logs.configure()


async def reread(here, text=""):
    here.env.write_text(text)
    return await here.http.get("/rereadenv", headers=ADMIN)


async def applied(here, text=""):
    answer = await reread(here, text)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def status(here, path, headers=ADMIN, method="GET", **options):
    return (await here.http.request(method, path, headers=headers, **options)).status_code


async def keeps_rejected(here):
    before = len(await here.rejected())
    await here.http.post("/sensors/pump-1/measurements", content=b"nan", headers=ADMIN)
    body = {"value": 1, "timestamp": 9e10}
    await here.http.post("/sensors/pump-1/measurements", json=body, headers=ADMIN)
    return len(await here.rejected()) > before


async def statuses(here, path, headers=ADMIN, **options):
    """Return whether one of three calls was one too many."""
    found = [await status(here, path, headers, **options) for _ in range(3)]
    return 429 in found


async def delivered_on(here, topic):
    """Return whether a packet that is posted comes to a subscriber of this topic."""
    packet = {"device_id": "pump-1", "measurements": {"t": here.next}}
    here.next += 1
    await here.http.post("/packets", json=packet, headers=ADMIN)
    with contextlib.suppress(TimeoutError):
        return published(await here.clients[topic].packet(0.3)).topic == topic
    return False


async def takes_packets_on(here, topic):
    packet = {"device_id": "pump-1", "measurements": {"t": here.next}}
    here.next += 1
    client, before = here.clients["device"], len(await here.rejected())
    client.send(publish(f"{topic}/pump-1", json.dumps(packet).encode(), qos=1, packet_id=7))
    await client.packet()
    return len(await here.rejected()) == before


async def raw_days(here):
    found = (await here.http.get("/sensors/pump-1/retention", headers=ADMIN)).json()
    return found["effective"]


def handlers():
    (bounded,) = (h for h in logging.getLogger().handlers if isinstance(h, logs.Bounded))
    return bounded.handlers


def log_file(_here):
    return next((h for h in handlers() if isinstance(h, logs.LogFile)), None)


def mail(here):
    return here.services.notifications.courier.mailer._server


# Of each setting that can change a text in `.env`, what shows it, and what that is then.
CHANGES = {
    "log_level": ("error", lambda _: logging.getLogger().level, logging.ERROR),
    "log_levels": (
        "mqtt=debug",
        lambda _: logging.getLogger("heliograph.mqtt.link").getEffectiveLevel(),
        logging.DEBUG,
    ),
    "log_format": (
        "json",
        lambda _: logs.render_json in handlers()[0].formatter.processors,
        True,
    ),
    "log_file": ("server.log", lambda here: log_file(here) is not None, True),
    "log_file_size": ("5KB", lambda here: log_file(here).maxBytes, 5_000),
    "log_file_count": ("2", lambda here: log_file(here).backupCount, 2),
    "processing_interval": (
        "0.25",
        lambda here: {
            part.interval
            for part in (
                *(*here.services.dispatchers, here.services.processor),
                *(here.services.notifications, here.services.alerting),
            )
        },
        {0.25},
    ),
    "rate_limit_read": ("2", lambda here: statuses(here, "/sensors"), True),
    "rate_limit_write": (
        "2",
        lambda here: statuses(here, "/devices/pump-1", method="PATCH", json={"name": "x"}),
        True,
    ),
    "rate_limit_ingest": (
        "2",
        lambda here: statuses(here, "/ingest", method="POST", json={"device_id": "pump-1", "t": 1}),
        True,
    ),
    "rate_limit_mqtt": (
        "0",
        lambda here: here.services.listener.shares.enter("x", Principal("x", "user")),
        None,
    ),
    "rate_limit_failed_logins": ("0", lambda here: here.services.limiter._per_address, 0),
    "retention_days": ("7", raw_days, {"raw_days": 7, "rollup_days": 0, "log_days": 0}),
    "rollup_retention_days": ("8", raw_days, {"raw_days": 0, "rollup_days": 8, "log_days": 0}),
    "log_retention_days": ("9", raw_days, {"raw_days": 0, "rollup_days": 0, "log_days": 9}),
    "rejected_per_source_per_hour": ("0", keeps_rejected, False),
    "rejected_max_bytes": ("0", keeps_rejected, False),
    "disk_budget": ("1GB", lambda here: here.services.disk.budget, 1_000_000_000),
    "pack_after": ("26h", lambda here: here.services.packer.after, 26 * 3_600_000_000),
    "notice_window": ("2", lambda here: here.services.notifications.pace.window, 2_000_000),
    "notices_per_hour": ("3", lambda here: here.services.notifications.pace.per_hour, 3),
    "smtp_host": ("localhost", lambda here: mail(here).host, "localhost"),
    "smtp_port": ("2525", lambda here: mail(here).port, 2525),
    "smtp_security": ("tls", lambda here: mail(here).security, "tls"),
    "smtp_username": ("me", lambda here: mail(here).username, "me"),
    "smtp_password": ("pw", lambda here: mail(here).password, "pw"),
    "smtp_sender": ("a@example.org", lambda here: mail(here).sender, "a@example.org"),
    "max_streams": ("0", lambda here: here.services.streams.has_room("x"), False),
    "max_streams_per_principal": ("0", lambda here: here.services.streams.has_room("x"), False),
    "mqtt_publish_topic": ("orders", lambda here: delivered_on(here, "orders"), True),
    "mqtt_subscribe_topic": ("inbox/+", lambda here: takes_packets_on(here, "inbox"), True),
    "rejected_retention_days": ("2", lambda h: h.services.settings.rejected_retention_days, 2),
    "audit_days": ("3", lambda here: here.services.settings.audit_days, 3),
    "session_days": ("4", lambda here: here.services.settings.session_days, 4),
    "allow_signup": (
        "false",
        lambda here: status(
            here, "/users", None, "POST", json={"username": "u", "password": PASSWORD}
        ),
        403,
    ),
    "heartbeat_url": (
        "https://watcher.test/x",
        lambda here: here.services.settings.heartbeat_url is not None,
        True,
    ),
    "metrics_token": (
        TOKEN,
        lambda here: status(here, "/metrics", {"authorization": f"Bearer {TOKEN}"}),
        200,
    ),
    "broker_auth_key": (
        TOKEN,
        lambda here: status(
            here,
            "/broker/emqx/authentication",
            {"x-api-key": TOKEN},
            "POST",
            json={"username": "x"},
        ),
        200,
    ),
    "broker_auth_networks": (
        "127.0.0.1",
        lambda here: status(
            here, "/broker/emqx/authentication", None, "POST", json={"username": "x"}
        ),
        200,
    ),
}
# What has to be set beside it.
MAIL = "SMTP_HOST=127.0.0.1\nSMTP_SENDER=x@example.org\nSMTP_USERNAME=u\nSMTP_PASSWORD=x\n"
BESIDE = {"log_file_size": "LOG_FILE=server.log\n", "log_file_count": "LOG_FILE=server.log\n"}


async def seen(here, look):
    found = look(here)
    return await found if hasattr(found, "__await__") else found


async def test_each_setting_that_can_change_takes_effect_and_goes_back(here):
    here.next = 1
    key = (await here.device("pump-1"))["x-api-key"]
    ((_, port),) = here.services.listener.addresses
    here.clients = {"device": await Client.connected(port, "device", "pump-1", key)}
    here.clients["orders"] = client = await Client.connected(port, "all", "x", ADMIN["x-api-key"])
    client.send(subscribe("orders", qos=0))
    await client.packet()
    assert set(CHANGES) == here.services.settings.changeable
    assert set(CHANGES) == {
        name for names, _ in here.services.running_settings._table for name in names
    }
    for name, (text, look, expected) in CHANGES.items():
        beside = MAIL if name.startswith("smtp_") else BESIDE.get(name, "")
        await applied(here, beside)
        assert await seen(here, look) != expected, name
        answer = await applied(here, f"{beside}{name.upper()}={text}\n")
        assert answer == {"changed": [name.upper()], "restart_required": [], "workers_left": 0}
        assert await seen(here, look) == expected, name
        here.services.access.limits.read._buckets.clear()
        # Twice is nothing new.
        again = await applied(here, f"{beside}{name.upper()}={text}\n")
        assert again == {"changed": [], "restart_required": [], "workers_left": 0}
        assert (await applied(here, beside))["changed"] == [name.upper()]
        here.services.access.limits.read._buckets.clear()
    for client in here.clients.values():
        await client.close()


async def test_003_4_4_3_rereadenv_applies_updated_variables_and_tells_of_errors(here, capsys):
    """200 on success; errors are logged and answered, and nothing of a wrong file is applied."""
    for prefix in PREFIXES:
        answer = await here.http.get(f"{prefix}/rereadenv", headers=ADMIN)
        assert (answer.status_code, answer.json()) == (
            200,
            {"changed": [], "restart_required": [], "workers_left": 0},
        )
    found = await applied(
        here, "LOG_LEVEL=warning\nSESSION_DAYS=5\nPORT=9000\nMETRICS_TOKEN=" + TOKEN
    )
    assert found == {
        "changed": ["SESSION_DAYS", "METRICS_TOKEN", "LOG_LEVEL"],
        "restart_required": ["PORT"],
        "workers_left": 0,
    }
    assert here.services.settings.port == 8_000
    (entry, _) = (await here.http.get("/audit?action=settings.change", headers=ADMIN)).json()
    assert entry["changes"]["SESSION_DAYS"] == {"old": 30, "new": 5}
    assert TOKEN not in json.dumps(entry)
    for wrong, reason in (
        ("SESSION_DAYS=6\nLOG_LEVEL=loud\n", "LOG_LEVEL: should be one of debug, info"),
        ("SESSION_DAYS=6\nLOG_FILE=/proc/server.log\n", "LOG_FILE: can't write '/proc/server.log'"),
        ("SESSION_DAYS=6\nSMTP_HOST=localhost\n", "SMTP_SENDER: goes together with SMTP_HOST"),
    ):
        capsys.readouterr()
        answer = await reread(here, wrong)
        assert answer.status_code == 400
        assert answer.json()["code"] == "INVALID_SETTINGS"
        assert answer.json()["detail"].startswith(reason)
        assert "settings not applied" in capsys.readouterr().err
        assert here.services.settings.session_days == 5
        assert logging.getLogger().level == logging.WARNING
    for prefix in PREFIXES:
        assert await status(here, f"{prefix}/rereadenv", WRONG) == 401
        assert await status(here, f"{prefix}/rereadenv?x=1") == 400
