"""Brokers that ask who may do what: calls as EMQX 5 and RabbitMQ document them."""

import urllib.parse

import pytest

from heliograph.errors import StoreUnavailableError
from integration.http.conftest import ADMIN, ADMIN_KEY, PASSWORD, SHARED_KEY

BROKER_KEY = "a-brokers-key-for-tests-only"
BROKER = {"x-api-key": BROKER_KEY}
SERVER = {
    "mqtt_username": "heliograph",
    "mqtt_password": "a-password",
    "broker_auth_key": BROKER_KEY,
}


class Emqx:
    """Asks as EMQX does, with the bodies that its documentation has as the default."""

    def __init__(self, here):
        self.here = here

    async def ask(self, path, **body):
        answer = await self.here.http.post(f"/broker/emqx/{path}", json=body, headers=BROKER)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        return answer.json()

    async def login(self, username, password, clientid=None):
        clientid = {} if clientid is None else {"clientid": clientid}
        said = await self.ask("authentication", username=username, password=password, **clientid)
        assert set(said) == {"result", "is_superuser"}
        return said["result"] == "allow"

    async def may(self, username, action, topic):
        said = await self.ask("authorization", username=username, topic=topic, action=action)
        assert set(said) == {"result"}
        return said["result"] == "allow"

    async def publish(self, username, topic):
        return await self.may(username, "publish", topic)

    async def subscribe(self, username, topic_filter):
        return await self.may(username, "subscribe", topic_filter)


class RabbitMq:
    """Asks as rabbitmq_auth_backend_http does, by either of its methods."""

    def __init__(self, here, method):
        self.here = here
        self.method = method

    async def ask(self, path, **fields):
        text = urllib.parse.urlencode(fields)
        path = f"/broker/rabbitmq/{path}"
        if self.method == "GET":
            answer = await self.here.http.get(f"{path}?{text}", headers=BROKER)
        else:
            form = {"content-type": "application/x-www-form-urlencoded"}
            answer = await self.here.http.post(
                f"{path}?key={BROKER_KEY}", content=text, headers=form
            )
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text in ("allow", "deny")
        return answer.text == "allow"

    async def login(self, username, password, clientid=None):
        client_id = {} if clientid is None else {"client_id": clientid}
        return await self.ask("user", username=username, password=password, vhost="/", **client_id)

    async def may(self, username, permission, topic):
        key = topic.translate(str.maketrans("./+", "/.*"))
        return await self.ask(
            "topic",
            username=username,
            vhost="/",
            resource="topic",
            name="amq.topic",
            permission=permission,
            tags="",
            routing_key=key,
        )

    async def publish(self, username, topic):
        return await self.may(username, "write", topic)

    async def subscribe(self, username, topic_filter):
        return await self.may(username, "read", topic_filter)


@pytest.fixture(params=["emqx", "rabbitmq POST", "rabbitmq GET"])
def broker(request):
    """Return what asks a server."""
    name, _, method = request.param.partition(" ")
    return Emqx if name == "emqx" else lambda here: RabbitMq(here, method)


async def identifier(here, name):
    return (await here.services.store.sensors.find(name)).identifier


async def test_a_device_logs_in_with_its_own_key_only(site, broker):
    async with site(**SERVER) as here:
        asks = broker(here)
        key = (await here.device("pump-1"))["x-api-key"]
        other = (await here.device("pump-2"))["x-api-key"]
        for name in ("pump-1", await identifier(here, "pump-1")):
            assert await asks.login(name, key)
            assert not await asks.login(name, other)
            assert not await asks.login(name, "")
        assert await asks.login("pump-1", SHARED_KEY)
        assert not await asks.login("nobody", SHARED_KEY)
        assert not await asks.login("nobody", key)
        # These go with any name, and a broker knows clients by their names.
        assert not await asks.login("pump-1", ADMIN_KEY)
        assert not await asks.login("admin", ADMIN_KEY)


async def test_another_devices_client_id_is_refused(site, broker):
    async with site(**SERVER) as here:
        asks = broker(here)
        key = (await here.device("pump-1"))["x-api-key"]
        await here.device("pump-2")
        assert await asks.login("pump-1", key, "pump-1")
        assert await asks.login("pump-1", key, await identifier(here, "pump-1"))
        for foreign in ("pump-2", await identifier(here, "pump-2"), "anything", ""):
            assert not await asks.login("pump-1", key, foreign)
        assert await asks.login("heliograph", "a-password", "heliograph-2")


async def test_a_device_reaches_its_own_topics_only(site, broker):
    async with site(**SERVER) as here:
        asks = broker(here)
        for name in ("pump-1", "pump-2"):
            await here.device(name)
        for who in ("pump-1", await identifier(here, "pump-1")):
            for first in ("measurements", "log-messages", "logs", "heartbeats", "status"):
                assert await asks.publish(who, f"{first}/pump-1")
                assert not await asks.publish(who, f"{first}/pump-2")
                assert not await asks.publish(who, f"{first}/nobody")
            assert not await asks.publish(who, "configurations/pump-1")
            assert not await asks.publish(who, "commands")
            assert await asks.subscribe(who, "configurations/pump-1")
            assert await asks.subscribe(who, "commands")
            for foreign in (
                "configurations/pump-2",
                "#",
                "+/+",
                "measurements/#",
                "configurations/+",
                "+/pump-1",
                "$share/g/configurations/pump-2",
                "$share/g/#",
                "$SYS/#",
                "configurations/pump-1/#",
            ):
                assert not await asks.subscribe(who, foreign), foreign


async def test_a_shared_key_is_no_password_where_no_owner_lets_it_in(site, broker):
    async with site(**SERVER) as here:
        asks = broker(here)
        network = await here.network("private")
        await here.device("pump-1", network_identifier=network)
        assert not await asks.login("pump-1", SHARED_KEY)
        await here.http.put(f"/networks/{network}", json={"shared_keys": True}, headers=ADMIN)
        assert await asks.login("pump-1", SHARED_KEY)


async def test_what_everybody_may_is_granted_at_a_broker_without_wildcards(site, broker):
    """It would hand over all that a filter matches, whatever network that is of."""
    async with site(anonymous_role="viewer", **SERVER) as here:
        asks = broker(here)
        await here.device("pump-1")
        await here.device("pump-2")
        await here.device("far", network_identifier=await here.network("private"))
        assert await asks.subscribe("pump-1", "measurements/pump-2")
        assert not await asks.publish("pump-1", "measurements/pump-2")
        for foreign in ("measurements/far", "#", "+/+", "measurements/+", "+/pump-2"):
            assert not await asks.subscribe("pump-1", foreign), foreign


async def test_a_deactivated_device_is_nobody(site, broker):
    async with site(**SERVER) as here:
        asks = broker(here)
        key = (await here.device("pump-1"))["x-api-key"]
        assert await asks.publish("pump-1", "measurements/pump-1")
        await here.http.delete("/devices/pump-1", headers=ADMIN)
        assert not await asks.login("pump-1", key)
        assert not await asks.publish("pump-1", "measurements/pump-1")
        assert not await asks.subscribe("pump-1", "configurations/pump-1")


async def test_a_rotated_key_is_asked_for_at_once(site, broker):
    async with site(**SERVER) as here:
        asks = broker(here)
        old = (await here.device("pump-1"))["x-api-key"]
        assert await asks.login("pump-1", old)
        new = (await here.http.post("/devices/pump-1/key", headers=ADMIN)).json()["api_key"]
        assert not await asks.login("pump-1", old)
        assert await asks.login("pump-1", new)


async def test_users_see_what_they_may_one_topic_at_a_time(site, broker):
    async with site(**SERVER) as here:
        asks = broker(here)
        for name in ("vera", "edith"):
            await here.account(name)
        session = await here.session(await here.account("ada", is_admin=True))
        network = await here.network("n", vera="viewer", edith="editor")
        await here.device("pump-1", network_identifier=network)
        await here.device("foreign")
        for name in ("vera", "edith", "ada"):
            assert await asks.login(name, PASSWORD)
            assert not await asks.login(name, "wrong")
            assert await asks.subscribe(name, "measurements/pump-1")
            assert await asks.subscribe(name, "measurements/foreign") == (name == "ada")
            # The broker would hand over all that matches, other networks' too.
            assert await asks.subscribe(name, "measurements/+") == (name == "ada")
            assert await asks.publish(name, "measurements/pump-1") == (name != "vera")
            assert await asks.publish(name, "measurements/foreign") == (name == "ada")
        token = session["authorization"].split()[1]
        assert not await asks.login("ada", token)


async def test_nobody_goes_by_the_name_of_another(site, broker):
    """Neither a device nor a user that is called as the server, nor a user as a device."""
    async with site(**SERVER) as here:
        asks = broker(here)
        key = (await here.device("heliograph"))["x-api-key"]
        assert not await asks.login("heliograph", key)
        await here.account("heliograph")
        assert not await asks.login("heliograph", PASSWORD)
        assert await asks.login("heliograph", "a-password")
        assert await asks.subscribe("heliograph", "$share/heliograph/measurements/+")
        await here.account("pump-1", is_admin=True)
        key = (await here.device("pump-1"))["x-api-key"]
        assert not await asks.login("pump-1", PASSWORD)
        assert await asks.login("pump-1", key)
        assert not await asks.subscribe("pump-1", "#")


async def test_without_a_password_of_the_server_its_name_is_nobodys(site, broker):
    async with site(broker_auth_key=BROKER_KEY) as here:
        asks = broker(here)
        await here.account("heliograph")
        assert not await asks.login("heliograph", PASSWORD)
        assert not await asks.subscribe("heliograph", "#")


async def test_only_the_server_is_a_superuser_of_emqx(site):
    async with site(**SERVER) as here:
        key = (await here.device("pump-1"))["x-api-key"]
        await here.account("ada", is_admin=True)
        for name, password in (("pump-1", key), ("ada", PASSWORD), ("heliograph", "a-password")):
            said = await Emqx(here).ask("authentication", username=name, password=password)
            assert said == {"result": "allow", "is_superuser": name == "heliograph"}
        anonymous = await Emqx(here).ask("authentication", username=None, clientid="x")
        assert anonymous == {"result": "deny", "is_superuser": False}


async def test_rabbitmq_resources_are_those_of_the_clients_own_session(site):
    async with site(**SERVER) as here:
        asks = RabbitMq(here, "POST")
        await here.device("pump-1")

        async def may(resource, name, permission, username="pump-1"):
            return await asks.ask(
                "resource",
                username=username,
                vhost="/",
                resource=resource,
                name=name,
                permission=permission,
            )

        assert await may("exchange", "amq.topic", "write")
        assert await may("exchange", "amq.topic", "read")
        assert not await may("exchange", "amq.topic", "configure")
        assert not await may("exchange", "", "write")
        assert not await may("exchange", "amq.fanout", "write")
        own = await identifier(here, "pump-1")
        for name in ("mqtt-subscription-pump-1qos1", f"mqtt-subscription-{own}qos0"):
            for permission in ("configure", "write", "read"):
                assert await may("queue", name, permission)
        for name in ("mqtt-subscription-pump-2qos1", "mqtt-subscription-", "tasks"):
            assert not await may("queue", name, "read")
        assert await may("queue", "anything", "configure", "heliograph")
        assert not await may("queue", "mqtt-subscription-nobodyqos1", "read", "nobody")
        assert await asks.ask("vhost", username="pump-1", vhost="/", ip="10.0.0.1")
        assert not await asks.ask("vhost", username="pump-1", vhost="other", ip="10.0.0.1")
        assert not await asks.ask("vhost", username="nobody", vhost="/", ip="10.0.0.1")


async def test_what_can_not_be_decided_is_no(site, monkeypatch):
    async with site(**SERVER) as here:
        await here.device("pump-1")
        emqx, rabbitmq = Emqx(here), RabbitMq(here, "POST")
        assert await emqx.publish("pump-1", "measurements/pump-1")

        async def away(*_, **__):
            raise StoreUnavailableError("away")

        monkeypatch.setattr(here.services.broker_clients, "client", away)
        assert not await emqx.publish("pump-1", "measurements/pump-1")
        assert not await emqx.login("pump-1", "x")
        # RabbitMQ takes everything but 200 and 201 for a no.
        answer = await here.http.post("/broker/rabbitmq/vhost", headers=BROKER)
        assert answer.status_code == 503
        del rabbitmq


async def test_too_many_wrong_passwords_are_refused_like_any(site, broker):
    async with site(**SERVER, rate_limit_failed_logins=2) as here:
        asks = broker(here)
        await here.account("ada")
        for _ in range(12):
            assert not await asks.login("ada", "wrong")
        assert not await asks.login("ada", PASSWORD)


async def test_wrong_keys_of_a_brokers_clients_count_and_fill_no_log(site, broker, capsys):
    async with site(**SERVER, rate_limit_failed_logins=3) as here:
        asks, key = broker(here), await here.device("pump-1")
        for number in range(6):
            # Too short to be one that the server made.
            assert not await asks.login("pump-1", f"guess {number}")
        guess = await here.http.get("/devices", headers={"x-api-key": "guess"})
        assert guess.status_code == 429
        assert await asks.login("pump-1", key["x-api-key"])
        assert "broker question unanswered" not in "".join(capsys.readouterr())


PATHS = ["/broker/emqx/authentication", "/broker/rabbitmq/user"]


@pytest.mark.parametrize("path", PATHS)
async def test_who_may_ask(site, path):
    async with site(**SERVER) as here:
        for headers, status in (
            (BROKER, 200),
            (ADMIN, 200),
            ({}, 401),
            ({"x-api-key": "wrong"}, 401),
            (await here.device("pump-1"), 403),
            (await here.user("ada"), 403),
            (await here.user("root", is_admin=True), 200),
        ):
            answer = await here.http.post(path, json={}, headers=headers)
            assert answer.status_code == status, (headers, answer.text)
        for key, status in ((BROKER_KEY, 200), ("wrong", 401), ("", 401), (ADMIN_KEY, 401)):
            answer = await here.http.post(path, json={}, params={"key": key})
            assert answer.status_code == status
        # It opens nothing else.
        assert (await here.http.get("/devices", headers=BROKER)).status_code == 401


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_key_of_the_broker_only_the_admin_may_ask(site, path):
    async with site() as here:
        for headers, status in ((ADMIN, 200), ({"x-api-key": ""}, 401), ({}, 401)):
            answer = await here.http.post(path, json={}, headers=headers)
            assert answer.status_code == status
        answer = await here.http.post(f"{path}?key=", json={})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("networks", "status"),
    [("127.0.0.0/8", 200), ("127.0.0.1", 200), ("10.0.0.0/8", 401), ("::1,10.0.0.1", 401)],
)
async def test_addresses_that_need_no_key(site, networks, status):
    async with site(broker_auth_networks=networks) as here:
        for path in PATHS:
            assert (await here.http.post(path, json={})).status_code == status
            wrong = await here.http.post(path, json={}, headers={"x-api-key": "wrong"})
            assert wrong.status_code == 401


async def test_wrong_keys_and_questions_are_limited(site):
    async with site(**{**SERVER, "rate_limit_failed_logins": 2, "rate_limit_ingest": 3}) as here:
        path = PATHS[0]
        statuses = [
            (await here.http.post(f"{path}?key=wrong-{n}", json={})).status_code for n in range(4)
        ]
        assert statuses == [401, 401, 429, 429]
        statuses = [
            (await here.http.post(path, json={}, headers=BROKER)).status_code for _ in range(4)
        ]
        assert statuses == [200, 200, 200, 429]


@pytest.mark.parametrize(
    "content",
    [b"\xff=1", b"username=%ff", b"a=1&a=2", b"&".join(b"a%d=1" % n for n in range(200))],
)
async def test_bad_forms_are_told(site, content):
    async with site(**SERVER) as here:
        headers = {**BROKER, "content-type": "application/x-www-form-urlencoded"}
        answer = await here.http.post("/broker/rabbitmq/user", content=content, headers=headers)
        assert answer.status_code in (400, 422)
        assert set(answer.json()) == {"detail", "code"}


async def test_large_bodies_are_refused(site):
    async with site(**SERVER) as here:
        headers = {**BROKER, "content-type": "application/x-www-form-urlencoded"}
        large = b"username=" + b"x" * (2 << 20)
        answer = await here.http.post("/broker/rabbitmq/user", content=large, headers=headers)
        assert answer.status_code == 413


async def test_odd_names_and_topics_are_no_for_everybody(site, broker):
    async with site(**SERVER) as here:
        asks = broker(here)
        await here.device("pump-1")
        for odd in ("", "\0", "a\0b", "x" * 20_000, "measurements/", "/", "é", "#/a", "a#"):
            assert not await asks.login(odd, odd)
            assert not await asks.publish(odd, odd)
            assert not await asks.subscribe("pump-1", odd)
            assert not await asks.publish("pump-1", odd)
