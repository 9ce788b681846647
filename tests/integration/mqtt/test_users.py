"""Users over MQTT: how they log in, what they see and send, and what ends that."""

import asyncio
import threading
import uuid

import pytest
from argon2 import PasswordHasher

from heliograph.access.passwords import MOST_WAITING_OF_ACCOUNT
from heliograph.errors import ErrorCode, HeliographError
from heliograph.model.credentials import hash_key, new_api_key, new_token
from heliograph.model.principal import Role
from heliograph.model.time import now
from mqtt_client import Client, connect, kept, publish, published, subscribe
from server import eventually, running

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

PASSWORD = "12345678"
CHEAP_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
VALUE = b'{"value": 1}'


async def account(server, username, *, is_admin=False, **roles):
    """Make an account, with its roles by the networks' names; return it."""
    store = server.store
    made = await store.accounts.create(
        identifier=str(uuid.uuid4()),
        username=username,
        password_hash=CHEAP_HASH,
        created_at=now(),
        is_admin=is_admin,
    )
    for name, role in roles.items():
        await grant(server, made, await network(server, name), role)
    return made


async def network(server, name):
    """Return the UUID of the network of this name, which is made where there is none."""
    found, _ = await server.store.networks.list(networks=None, offset=0, limit=100)
    for each in found:
        if each.name == name:
            return each.identifier
    identifier = str(uuid.uuid4())
    await server.store.networks.create(
        identifier=identifier, name=name, created_at=now(), owner=None
    )
    return identifier


async def grant(server, made, place, role):
    if role is None:
        await server.store.networks.remove_member(place, made.identifier)
    else:
        await server.store.networks.set_member(place, made.identifier, Role[role.upper()], now())
    await server.services.registry.changed()


async def session(server, made, seconds=3_600):
    token, moment = new_token(), now()
    await server.store.accounts.open_session(
        hash_key(token),
        made,
        purpose="session",
        created_at=moment,
        expires_at=moment + seconds * 1_000_000,
    )
    return token


async def device(server, device_id, place):
    """Register a device in the network of this name."""
    body = {"device_id": device_id, "network_identifier": await network(server, place)}
    response = await server.http.post("/devices", json=body)
    assert response.status_code == 201, response.text
    return response.json()["api_key"]


async def refusal(server, username, password, version=5):
    """Return the code by which a log-in is refused."""
    client = await Client.open(server.port, version)
    client.send(connect("c", username, password, version=version))
    answer = await client.packet()
    assert await client.packet() == b""
    return answer[2]


async def sent(client, topic, version=5):
    """Publish, and return the reason code of the answer (3.1.1: 0)."""
    client.send(publish(topic, VALUE, version=version))
    answer = await client.packet()
    assert answer[0] == 0x40, answer
    return answer[3] if len(answer) > 3 else 0


async def test_a_user_logs_in_by_password_or_session(server, version):
    ada = await account(server, "ada")
    token = await session(server, ada)
    await device(server, "pump-1", "roof")
    for username, password in (("ada", PASSWORD), ("whoever", token), ("pump-1", token)):
        client = await Client.connected(server.port, "c", username, password, version=version)
        await client.quiet()
        await client.close()
    wrong = 0x86 if version == 5 else 4
    for username, password in (
        ("ada", "wrong password"),
        ("bob", PASSWORD),
        ("Ada", PASSWORD),
        ("ada", ""),
        ("ada", PASSWORD + "x" * 300),
        ("ada", b"\xff" * 8),
        ("pump-1", PASSWORD),
        ("ada", new_token()),
    ):
        assert await refusal(server, username, password, version) == wrong


async def test_a_user_may_be_called_like_a_device(server):
    await device(server, "pump-1", "roof")
    await account(server, "pump-1", roof="viewer")
    client = await Client.connected(server.port, "c", "pump-1", PASSWORD, version=5)
    client.send(subscribe("measurements/#", version=5))
    assert (await client.packet())[-1] == 1
    assert await sent(client, "measurements/pump-1") == 0x87


async def test_a_ticket_is_no_password(server):
    ada = await account(server, "ada")
    ticket, moment = new_token(), now()
    await server.store.accounts.open_session(
        hash_key(ticket), ada, purpose="ticket", created_at=moment, expires_at=moment + 60_000_000
    )
    assert await refusal(server, "ada", ticket) == 0x86


async def test_a_user_sees_the_sensors_of_his_networks_only(server, version):
    await account(server, "ada", roof="viewer")
    keys = {
        name: await device(server, name, place)
        for name, place in (("roof-1", "roof"), ("cellar-1", "cellar"), ("roof-2", "roof"))
    }
    ada = await Client.connected(server.port, "ada", "ada", PASSWORD, version=version)
    for topic_filter in ("#", "measurements/+", "measurements/cellar-1"):
        ada.send(subscribe(topic_filter, version=version))
        assert (await ada.packet())[-1] == 1
    for name in ("cellar-1", "roof-1", "cellar-1", "roof-2"):
        client = await Client.connected(server.port, name, name, keys[name], version=version)
        client.send(publish(f"measurements/{name}", VALUE, version=version))
        assert await client.packet() == b"\x40\0\x01"
        await client.close()
    seen = []
    for _ in range(2):
        message = published(await ada.packet(), version)
        seen.append(message.topic)
        ada.send(b"\x40\x02" + message.packet_id.to_bytes(2, "big"))
    await ada.quiet()
    assert seen == ["measurements/roof-1", "measurements/roof-2"]


async def test_retained_messages_are_those_of_his_networks(server, version):
    await account(server, "ada", roof="viewer")
    for name, place in (("roof-1", "roof"), ("cellar-1", "cellar")):
        await device(server, name, place)
        sensor = await server.store.sensors.find(name)
        await server.store.configurations.add(sensor.number, "{}")
    ada = await Client.connected(server.port, "ada", "ada", PASSWORD, version=version)
    for topic_filter, expected in (
        ("configurations/#", "configurations/roof-1"),
        ("configurations/roof-1", "configurations/roof-1"),
        ("configurations/cellar-1", None),
    ):
        ada.send(subscribe(topic_filter, qos=0, version=version))
        assert (await ada.packet())[-1] == 0
        if expected is not None:
            assert published(await ada.packet(), version).topic == expected
        await ada.quiet()


@pytest.mark.parametrize("role", ["viewer", "editor", "owner", None])
async def test_who_may_send_as_a_networks_sensors(server, version, role):
    await account(server, "ada", **({"roof": role} if role else {}))
    await device(server, "roof-1", "roof")
    await device(server, "cellar-1", "cellar")
    ada = await Client.connected(server.port, "ada", "ada", PASSWORD, version=version)
    refused = 0x87 if version == 5 else 0
    may = role in ("editor", "owner")
    assert await sent(ada, "measurements/roof-1", version) == (0 if may else refused)
    for topic in ("measurements/cellar-1", "measurements/nobody"):
        assert await sent(ada, topic, version) == refused
    reasons = [(kept.reason, kept.principal) for kept in await server.rejected()]
    assert reasons == [("UNKNOWN_SENSOR", "user:ada")] * (2 if may else 3)
    sensor = await server.store.sensors.find("roof-1")
    rows = await server.store.measurements.page(sensor.number, key=None, direction="next", limit=9)
    assert len(rows) == may


async def test_an_administrator_may_everything(server):
    await account(server, "root", is_admin=True)
    await device(server, "cellar-1", "cellar")
    root = await Client.connected(server.port, "root", "root", PASSWORD, version=5)
    assert await sent(root, "measurements/cellar-1") == 0
    root.send(subscribe("measurements/#", qos=0, version=5))
    assert (await root.packet())[-1] == 0
    root.send(publish("measurements/cellar-1", VALUE, qos=0, version=5))
    assert published(await root.packet(), 5).topic == "measurements/cellar-1"


async def test_what_a_role_allows_ends_with_it(server, version):
    ada = await account(server, "ada", roof="editor")
    roof = await network(server, "roof")
    key = await device(server, "roof-1", "roof")
    client = await Client.connected(server.port, "ada", "ada", PASSWORD, version=version)
    pump = await Client.connected(server.port, "pump", "roof-1", key, version=version)
    client.send(subscribe("measurements/#", qos=0, version=version))
    await client.packet()
    refused = 0x87 if version == 5 else 0

    async def does():
        """Return what sending answers, and whether what the device sends is seen."""
        code = await sent_beside(client)
        pump.send(publish("measurements/roof-1", b'{"value": 2}', version=version))
        assert (await pump.packet())[0] == 0x40
        client.send(b"\xc0\x00")
        packets = []
        while (packet := await client.packet()) != b"\xd0":
            packets.append(packet[0] >> 4)
        return code, 3 in packets

    async def sent_beside(client):
        client.send(publish("measurements/roof-1", VALUE, version=version))
        while (packet := await client.packet())[0] != 0x40:
            assert packet[0] >> 4 == 3
        client.send(b"\xc0\x00")
        while await client.packet() != b"\xd0":
            pass
        return packet[3] if len(packet) > 3 else 0

    for role, expected in (
        ("editor", (0, True)),
        ("viewer", (refused, True)),
        (None, (refused, False)),
        ("owner", (0, True)),
    ):
        await grant(server, ada, roof, role)
        assert await does() == expected, role


async def test_a_will_is_not_published_for_who_may_not_send_any_more(server):
    ada = await account(server, "ada", roof="editor")
    await device(server, "roof-1", "roof")
    sensor = await server.store.sensors.find("roof-1")
    for role, expected in (("editor", b"offline"), ("viewer", b"offline")):
        will = ("status/roof-1", b"offline" if role == "editor" else b"online", 1, True)
        client = await Client.connected(server.port, "c", "ada", PASSWORD, version=5, will=will)
        await grant(server, ada, await network(server, "roof"), role)
        await client.abort()
        await eventually(lambda: server.listener.connections == 0 and server.state.depth == 0)
        found = await server.store.sensors.find_number(sensor.number)
        assert found.status.encode() == expected
    (rejected,) = await server.rejected()
    assert (rejected.reason, rejected.source) == ("UNKNOWN_SENSOR", "status/roof-1")


async def test_a_will_on_a_foreign_sensor_is_refused(server):
    await account(server, "ada", roof="viewer")
    await device(server, "roof-1", "roof")
    client = await Client.open(server.port, 5)
    will = ("status/roof-1", b"offline", 1, True)
    client.send(connect("c", "ada", PASSWORD, version=5, will=will))
    assert (await client.packet())[2] == 0x87


@pytest.mark.parametrize("means", ["password", "token"])
@pytest.mark.parametrize("change", ["password", "log-out", "deactivation"])
async def test_what_ends_a_connection(server, version, change, means):
    """A new password ends all, the end of a session those that were made by its token."""
    ada = await account(server, "ada")
    bob = await account(server, "bob")
    token, other = await session(server, ada), await session(server, ada)
    password = PASSWORD if means == "password" else token
    bobs = await Client.connected(server.port, "b", "x", await session(server, bob))
    client = await Client.connected(server.port, "c", "ada", password, version=version)
    if change == "password":
        assert await server.store.accounts.change_password(
            ada.identifier, "another", kept=hash_key(other)
        )
    elif change == "deactivation":
        assert await server.store.accounts.activate(ada.identifier, is_active=False)
    else:
        assert await server.store.accounts.end_session(hash_key(token))
    await server.services.registry.changed()
    if change == "log-out" and means == "password":
        await client.quiet()
        return
    answer = await client.packet()
    assert answer == b"" or (version == 5 and answer[:2] == b"\xe0\x87")
    if change == "deactivation":
        assert await refusal(server, "ada", PASSWORD) == 0x86
    await bobs.quiet()


async def test_the_session_that_changed_the_password_goes_on(server):
    ada = await account(server, "ada")
    token = await session(server, ada)
    client = await Client.connected(server.port, "c", "x", token, version=5)
    await server.store.accounts.change_password(ada.identifier, "new", kept=hash_key(token))
    await server.services.registry.changed()
    await client.quiet()


async def test_a_connection_ends_with_its_session(server, monkeypatch):
    ada = await account(server, "ada")
    client = await Client.connected(server.port, "c", "x", await session(server, ada), version=5)
    by_password = await Client.connected(server.port, "p", "ada", PASSWORD, version=5)
    await client.quiet()
    later = now() + 3_601 * 1_000_000
    monkeypatch.setattr("heliograph.mqtt.session.now", lambda: later)
    assert (await client.packet())[:2] == b"\xe0\x87"
    await by_password.quiet()


async def test_80_who_log_in_with_a_right_password_elsewhere_keep_nobody_out(server, monkeypatch):
    """Over HTTP or MQTT: all wait in one line, and each address comes in turn."""
    await account(server, "ada")
    passwords = server.services.passwords
    begun, go, checked = threading.Semaphore(0), threading.Semaphore(0), []
    matches = passwords._matches

    def held(password_hash, password):
        begun.release()
        assert go.acquire(timeout=30)
        checked.append(password)
        return matches(password_hash, password)

    monkeypatch.setattr(passwords, "_matches", held)
    password = server.services.authenticator.password
    flood = [asyncio.create_task(password("ada", PASSWORD, "192.0.2.1")) for _ in range(80)]
    try:
        assert await asyncio.to_thread(begun.acquire, timeout=30)
        client = await Client.open(server.port, 5)
        client.send(connect("c", "ada", PASSWORD, version=5))
        waiting = MOST_WAITING_OF_ACCOUNT + 1
        await eventually(lambda: passwords.state.waiting == waiting)
        go.release(2)
        assert (await client.packet())[2] == 0
        assert len(checked) == 2
    finally:
        go.release(100)
        answers = await asyncio.gather(*flood, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, HeliographError)]
    assert {answer.code for answer in refused} == {ErrorCode.RATE_LIMITED}
    assert len(refused) == 80 - MOST_WAITING_OF_ACCOUNT - 1


async def test_a_password_that_is_changed_while_it_is_checked_opens_nothing(server):
    ada = await account(server, "ada")
    verify = server.services.passwords.verify

    async def overtaken(*arguments):
        right = await verify(*arguments)
        await server.store.accounts.change_password(ada.identifier, "another")
        await server.services.registry.changed()
        return right

    server.services.passwords.verify = overtaken
    assert await refusal(server, "ada", PASSWORD) == 0x86


async def test_a_session_that_ends_while_it_is_looked_up_opens_nothing(server, monkeypatch):
    ada = await account(server, "ada")
    token = await session(server, ada)
    accounts = server.store.accounts
    find_session = accounts.find_session

    async def overtaken(*arguments):
        found = await find_session(*arguments)
        await accounts.end_session(hash_key(token))
        await server.services.registry.changed()
        return found

    monkeypatch.setattr(accounts, "find_session", overtaken)
    assert await refusal(server, "ada", token) == 0x86


async def test_wrong_passwords_are_limited_together_with_http(tmp_path, version):
    async with running(tmp_path, rate_limit_failed_logins=1_000) as server:
        await account(server, "ada")
        await account(server, "bob")
        body = {"username": "ada", "password": "wrong password"}
        for _ in range(5):
            assert (await server.http.post("/authentication", json=body)).status_code == 401
            wrong = await refusal(server, "ada", "wrong password", version)
            assert wrong == (0x86 if version == 5 else 4)
        # Over HTTP these came from another address; the eleventh here is one too many.
        for _ in range(5):
            await refusal(server, "ada", "wrong password", version)
        limited = 0x9F if version == 5 else 3
        assert await refusal(server, "ada", PASSWORD, version) == limited
        await (await Client.connected(server.port, "c", "bob", PASSWORD, version=version)).close()


async def test_old_keys_of_devices_cost_no_hash(server, version):
    """A fleet that was deleted comes back each second."""
    hashed = []
    matches = server.services.passwords._matches

    def counted(*arguments):
        hashed.append(threading.current_thread())
        return matches(*arguments)

    server.services.passwords._matches = counted
    await device(server, "pump-1", "roof")
    wrong = 0x86 if version == 5 else 4
    for username in ("pump-1", "deleted", str(uuid.uuid4())):
        assert await refusal(server, username, new_api_key(), version) == wrong
    assert hashed == []
    # What may be a person's password is hashed, whether or not the name is a device's.
    for username in ("pump-1", "deleted", str(uuid.uuid4())):
        assert await refusal(server, username, "wrong password", version) == wrong
    assert len(hashed) == 3
    assert threading.current_thread() not in hashed


async def test_too_many_log_ins_at_once_are_refused(server, version):
    async def full(*_):
        raise HeliographError(ErrorCode.QUEUE_FULL, "Too many", retry_after=5)

    server.services.passwords.verify = full
    assert await refusal(server, "ada", PASSWORD, version) == (0x89 if version == 5 else 3)


async def test_who_waits_for_long_to_log_in_is_told_that_many_do(server, version, monkeypatch):
    """Not that the database is away, which would be somebody else's to look after."""
    monkeypatch.setattr("heliograph.mqtt.connection.LOGIN_SECONDS", 0.05)

    async def waiting(*_):
        await asyncio.Event().wait()

    server.services.passwords.verify = waiting
    assert await refusal(server, "ada", PASSWORD, version) == (0x89 if version == 5 else 3)


async def test_users_who_are_forgotten_for_lack_of_room_are_found_again(server, monkeypatch):
    monkeypatch.setattr("heliograph.access.registry.MAXIMUM_ACCOUNTS", 1)
    await device(server, "roof-1", "roof")
    for name in ("ada", "bob"):
        await account(server, name, roof="editor")
    # A change that is noticed later ends the connections of those who are forgotten.
    await server.services.registry.changed()
    await eventually(lambda: server.listener._recheck_timer is None)
    clients = [
        await Client.connected(server.port, name, name, PASSWORD, version=5)
        for name in ("ada", "bob")
    ]
    for _ in range(2):
        for client in clients:
            assert await sent(client, "measurements/roof-1") == 0


async def test_a_kept_session_is_its_users_only(server, version):
    await account(server, "ada", roof="viewer")
    await account(server, "bob", roof="viewer")
    options = {"version": version, **kept(version)}
    first = await Client.connected(server.port, "c", "ada", PASSWORD, **options)
    first.send(subscribe("measurements/#", version=version))
    await first.packet()
    await first.close()
    await eventually(lambda: server.listener.connections == 0)
    stranger = await Client.connected(server.port, "c", "bob", PASSWORD, **options)
    assert not stranger.session_present
    token = await session(server, await server.store.accounts.find_username("ada"))
    again = await Client.connected(server.port, "c", "x", token, **options)
    assert again.session_present
