"""Channels: made, changed, shown without their secrets, tried, and told of alerts."""

import json
import uuid

import msgspec
import pytest

from heliograph.errors import StartError
from heliograph.model.alert import ClearedAlert, NewAlert
from heliograph.model.time import now
from heliograph.settings import Settings
from heliograph.store.alerts import change_alerts
from heliograph.store.channels import NOTIFY
from integration.http.conftest import ADMIN
from receiver import receiving
from server import eventually
from smtp_server import smtp_server

EMAIL = {"name": "Operators", "type": "email", "to": ["ada@example.org", "bob@example.org"]}
# As many at once as take little time to raise; of 2,000 grouping is tested alone.
MANY = 200
CHAT = {"name": "Phones", "type": "apprise", "url": "tgram://123:hidden-token/456"}


def hook(port, **members):
    return {
        "name": "Hook",
        "type": "webhook",
        "url": f"http://127.0.0.1:{port}/hidden?of=1",
        "secret": "hidden-secret",
        "headers": {"Authorization": "Bearer hidden-token"},
        **members,
    }


def mail_settings(mails):
    return {
        "smtp_host": "127.0.0.1",
        "smtp_port": mails.port,
        "smtp_security": "none",
        "smtp_sender": "heliograph@example.org",
        "webhook_allow": "127.0.0.1",
        "processing_interval": 0.05,
        "notice_window": 1,
    }


def problems(response):
    assert response.status_code == 422, response.text
    return [(".".join(each["loc"]), each["msg"]) for each in response.json()["detail"]]


async def test_channels_are_made_shown_changed_and_deleted_without_telling_a_secret(
    site, monkeypatch
):
    async with site() as here:
        await here.account("ash")
        network = await here.network("kanto", ash="editor")
        editor = await here.session(await here.services.store.accounts.find_username("ash"))
        here.http.headers.update(editor)
        answers = []
        for document in (EMAIL, hook(9), CHAT):
            body = document | {"network_identifier": network}
            answer = await here.http.post("/channels", json=body)
            assert answer.status_code == 201, answer.text
            made = answer.json()
            path = f"/channels/{made['id']}"
            answers += [answer.text, (await here.http.get(path)).text]
            # What GET gave can be sent back, and changes nothing.
            sent_back = await here.http.put(path, json=made)
            assert (sent_back.status_code, sent_back.json()) == (200, made), sent_back.text
            for name in ("id", "network_identifier", "created_at"):
                answer = await here.http.put(path, json=made | {name: "another"})
                assert [place for place, _ in problems(answer)] == [f"body.{name}"]
        listed = await here.http.get("/channels")
        assert listed.headers["x-total-count"] == "3"
        assert "hidden" not in "".join([*answers, listed.text])
        mail, webhook, chat = listed.json()
        assert (mail["to"], mail["secret"], mail["headers"]) == (EMAIL["to"], None, None)
        assert webhook["url"] == "http://127.0.0.1:9/***"
        assert (webhook["secret"], webhook["headers"]) == ("***", {"Authorization": "***"})
        assert (chat["url"], chat["service"], chat["may_choose_host"]) == ("***", "tgram", False)

        # Secrets stay where nothing is said of them, and go to no other URL.
        path = f"/channels/{webhook['id']}"
        renamed = await here.http.patch(path, json={"name": "Other", "enabled": False})
        assert renamed.json() == webhook | {
            "name": "Other",
            "enabled": False,
            "changed_at": renamed.json()["changed_at"],
        }
        kept = "should be given: there is none that *** could keep"
        led_away = await here.http.patch(path, json={"url": "https://evil.example.org/"})
        assert problems(led_away) == [("body.secret", kept)]
        led_away = await here.http.patch(path, json={"url": "https://evil.example.org/***"})
        assert problems(led_away) == [("body.url", kept)]
        stored = await here.services.store.channels.find(webhook["id"])
        assert msgspec.json.decode(stored.definition)["url"] == hook(9)["url"]
        without = {"url": "https://example.org/", "secret": None, "headers": None}
        assert (await here.http.patch(path, json=without)).json()["secret"] is None
        # Another type has other members.
        worded = await here.http.patch(path, json={"body": {"text": "{{text}}"}})
        assert worded.json()["body"] == {"text": "{{text}}"}
        turned = await here.http.put(path, json={"type": "email", "to": ["c@example.org"]})
        assert (turned.json()["name"], turned.json()["url"]) == ("Other", None)
        assert turned.json()["body"] is None
        worded = await here.http.patch(path, json={"subject": "{{title}}"})
        assert worded.json()["subject"] == "{{title}}"
        assert (await here.http.patch(path, json={"subject": None})).json()["subject"] is None

        for body, place, message in (
            (EMAIL | {"name": "x", "sms": "1"}, "body.sms", "unknown member"),
            (EMAIL | {"name": "x", "to": ["no address"]}, "body.to[0]", "should be an address"),
            (CHAT | {"name": "x", "url": "gotify://10.0.0.1/t"}, "body.url", "only the admin"),
            (EMAIL | {"name": "x", "url": "x"}, "body.url", "is not known"),
            (EMAIL | {"name": "x", "body": "{{txt}}"}, "body.body", "`txt` is not known: did you"),
        ):
            answer = await here.http.post("/channels", json=body | {"network_identifier": network})
            ((at, told),) = problems(answer)
            assert (at, told.startswith(message)) == (place, True), told
        # Who may choose any host is the administrator.
        body = CHAT | {"name": "y", "url": "gotify://10.0.0.1/t", "network_identifier": network}
        chosen = await here.http.post("/channels", json=body, headers=ADMIN)
        assert chosen.json()["may_choose_host"]
        answer = await here.http.post("/channels", json=EMAIL | {"network_identifier": network})
        assert answer.json()["code"] == "CHANNEL_NAME_ALREADY_REGISTERED"
        body = EMAIL | {"name": "z", "network_identifier": network, "id": mail["id"]}
        answer = await here.http.post("/channels", json=body)
        assert answer.json()["code"] == "CHANNEL_ALREADY_REGISTERED"

        # The server's own are nobody else's, be they known by their ids.
        body = EMAIL | {"network_identifier": None}
        assert (await here.http.post("/channels", json=body)).status_code == 403
        own = (await here.http.post("/channels", json=body, headers=ADMIN)).json()
        assert own["network_identifier"] is None
        for method in ("GET", "PUT", "DELETE"):
            request = {"json": {"name": "x"}} if method == "PUT" else {}
            answer = await here.http.request(method, f"/channels/{own['id']}", **request)
            assert answer.json()["code"] == "CHANNEL_NOT_FOUND"
        assert own["id"] not in (await here.http.get("/channels")).text
        assert own["id"] in (await here.http.get("/channels", headers=ADMIN)).text
        path = f"/channels/{own['id']}"
        assert (await here.http.put(path, json={"name": "x"}, headers=ADMIN)).status_code == 200
        assert (await here.http.delete(path, headers=ADMIN)).status_code == 204

        # What can't be read any more is given anew, or not at all; without a key nothing secret is.
        answer = await here.http.patch(f"/channels/{chat['id']}", json={"name": "Still"})
        assert answer.status_code == 200

        def no_key(_settings):
            raise StartError("SECRETS_KEY: required")

        monkeypatch.setattr(Settings, "secrets", no_key)
        answer = await here.http.patch(f"/channels/{chat['id']}", json={"name": "Not any more"})
        assert problems(answer) == [("body.url", kept)]
        answer = await here.http.patch(f"/channels/{chat['id']}", json={"url": CHAT["url"]})
        assert (answer.status_code, answer.json()["code"]) == (503, "NO_SECRETS_KEY")
        plain = EMAIL | {"name": "Plain", "network_identifier": network}
        assert (await here.http.post("/channels", json=plain)).status_code == 201

        audited = (await here.http.get("/audit?limit=100", headers=ADMIN)).text
        assert '"channel.delete"' in audited
        assert "hidden" not in audited


async def test_a_test_is_sent_at_once_and_says_what_became_of_it(site):
    async with (
        smtp_server(rcpt_bob="550 no such user") as mails,
        receiving(b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 500 No\r\n\r\n") as receiver,
        site(**mail_settings(mails)) as here,
    ):
        here.http.headers.update(ADMIN)

        async def test(channel):
            answer = await here.http.post(f"/channels/{channel}/test")
            assert answer.status_code == 200, answer.text
            return answer.json()

        documents = EMAIL, hook(receiver.port, enabled=False), hook(1, name="Nobody")
        mail, webhook, nobody = [
            (await here.http.post("/channels", json=document)).json()["id"]
            for document in documents
        ]
        assert await test(mail) == {"delivered": True, "detail": "refused for bob@example.org"}
        (mailed,) = mails.mails
        assert mailed.recipients == ["ada@example.org"]
        assert mailed.message["Subject"] == "[test] Operators"
        assert await test(webhook) == {"delivered": True, "detail": None}
        head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
        assert b"\r\nAuthorization: Bearer hidden-token\r\n" in head
        assert b"\r\nX-Heliograph-Signature: t=" in head
        assert json.loads(body)["network"] == "default"
        failed = await test(webhook)
        assert (failed["delivered"], failed["detail"]) == (False, "answered 500")
        assert not (await test(nobody))["delivered"]
        for _ in range(2):
            await test(mail)
        answer = await here.http.post(f"/channels/{mail}/test")
        assert (answer.status_code, answer.json()["code"]) == (429, "RATE_LIMITED")


async def test_alerts_are_told_to_the_channels_of_their_rule(site):
    """Of 2,000 at once there is one notice a channel; when they are all clear, it says so."""
    async with (
        smtp_server() as mails,
        receiving() as receiver,
        site(**mail_settings(mails)) as here,
    ):
        here.http.headers.update(ADMIN)
        for document in (EMAIL, hook(receiver.port), EMAIL | {"name": "Unused", "enabled": False}):
            assert (await here.http.post("/channels", json=document)).status_code == 201
        network = here.services.registry.default_network
        engine, rule = here.services.store.engine, str(uuid.uuid4())

        def alert(sensor, channels=None):
            return NewAlert(
                rule=rule,
                sensor=sensor,
                network_identifier=network,
                name="Offline",
                severity="critical",
                summary="gone",
                raised_at=now(),
                channels=channels,
            )

        async with engine.transaction() as transaction:
            alerts = [alert(sensor) for sensor in range(1, MANY + 1)]
            await change_alerts(transaction, alerts, now())
        here.services.notifications.wake()
        await eventually(lambda: mails.mails and receiver.requests)
        assert len(mails.mails) == len(receiver.requests) == 1
        subject, text = mails.mails[0].message["Subject"], mails.mails[0].message.get_content()
        assert subject == "[critical] 200 sensors: Offline"
        assert "Raised at this moment: 200." in text
        assert "Network: default" in text
        body = json.loads(receiver.requests[0].partition(b"\r\n\r\n")[2])
        assert (body["severity"], body["alerts"], body["channel"]) == ("critical", MANY, "Hook")

        async with engine.transaction() as transaction:
            over = [ClearedAlert(rule, sensor, now()) for sensor in range(1, MANY + 1)]
            await change_alerts(transaction, over, now())
        here.services.notifications.wake()
        await eventually(lambda: "all clear" in mails.mails[-1].message["Subject"])
        assert "[all clear]" in mails.mails[-1].message["Subject"]

        # Other people for another rule.
        rule = str(uuid.uuid4())
        async with engine.transaction() as transaction:
            await change_alerts(transaction, [alert(1, ("Hook",))], now())
        count = len(mails.mails)
        await eventually(lambda: b"Offline: " in receiver.requests[-1])
        assert len(mails.mails) == count

        # What is not delivered is seen.
        receiver.answers = [b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"]
        async with engine.transaction() as transaction:
            await change_alerts(transaction, [alert(2, ("Hook",))], now())

        async def failed():
            page = {"type": NOTIFY, "state": "failed", "offset": 0, "limit": 10}
            return [
                each.error for each in (await here.services.store.actions.page(None, **page))[0]
            ]

        await eventually(failed)
        assert await failed() == ["answered 302: redirects are not followed"]


async def test_a_measurement_is_told_by_e_mail_and_posted_to_a_webhook_channel(site):
    async with (
        smtp_server() as mails,
        receiving() as receiver,
        site(**mail_settings(mails)) as here,
    ):
        here.http.headers.update(ADMIN)
        await here.device("pump-1")
        for document in (EMAIL, hook(receiver.port)):
            assert (await here.http.post("/channels", json=document)).status_code == 201
        rule = {
            "name": "Hot",
            "condition": {"attribute": "t", "above": 30},
            "actions": [
                {"type": "alert", "text": "{{value.t}} degrees", "channels": ["Operators"]},
                {"type": "webhook", "channel": "Hook", "payload": {"t": "{{value.t}}"}},
                {"type": "webhook", "channel": "Operators"},
            ],
        }
        made = await here.http.post("/rules", json=rule)
        assert made.status_code == 201, made.text
        assert made.json()["unknown_channels"] == []
        # Else the processor knows of the rule a moment later.
        await here.services.processor.refresh()
        await here.http.post("/sensors/pump-1/measurements", json={"t": 31})
        await eventually(lambda: mails.mails and receiver.requests)
        message = mails.mails[0].message
        assert message["Subject"] == "[warning] Hot: pump-1 (31 degrees)"
        head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
        assert b"\r\nX-Heliograph-Signature: t=" in head
        assert b"\r\nAuthorization: Bearer hidden-token\r\n" in head
        assert json.loads(body) == {"t": 31}

        async def failed():
            page = {"state": "failed", "offset": 0, "limit": 10}
            actions, _ = await here.services.store.actions.page(None, **page)
            return [each.error for each in actions]

        await eventually(failed)
        assert await failed() == ["the channel 'Operators' is no webhook"]


@pytest.mark.parametrize("key", ["another", "none"])
async def test_a_start_says_which_channels_it_can_not_tell(site, monkeypatch, capsys, key):
    async with site() as here:
        here.http.headers.update(ADMIN)
        channel = (await here.http.post("/channels", json=CHAT)).json()["id"]
        (here.services.settings.data_directory / "secrets_key").unlink()
        if key == "none":

            def no_key(_settings):
                raise StartError("SECRETS_KEY: required with APP_ENV=production")

            monkeypatch.setattr(Settings, "secrets", no_key)
        await here.services.notifications.check()
        told = (await here.http.post(f"/channels/{channel}/test")).json()
        assert not told["delivered"]
        assert "SECRETS_KEY" in told["detail"]
    logged = capsys.readouterr()
    assert "channels unusable" in logged.out + logged.err
