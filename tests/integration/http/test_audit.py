"""The audit log: every change through the API is in it, no secret is, and who may read it."""

import asyncio
import dataclasses
import uuid
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest

from engines import SQLITE_FIRST
from heliograph.access.authenticator import FailedLogIns
from heliograph.access.limiter import Limiter
from heliograph.errors import RejectionReason
from heliograph.ingest.strict_json import Fault
from heliograph.model.audit import SYSTEM, AuditAction, AuditedChange
from heliograph.model.principal import Principal, Role
from heliograph.model.time import DAY, now, to_rfc3339
from heliograph.store import audit as audit_module
from heliograph.store import open_store
from integration.http.conftest import ADMIN, ADMIN_KEY, PASSWORD, SHARED, SHARED_KEY
from integration.http.test_access import (
    ANY_RULE,
    SOON,
    UNKNOWN,
    action_in,
    alert_in,
    annotation_in,
    board_in,
    channel_in,
    filled,
    in_path,
    routes,
    rule_in,
    session_of,
    silence_in,
)

CHANGING = ("POST", "PUT", "PATCH", "DELETE")
# What devices send is no change of the registry.
INGEST = {
    ("POST", "/ingest"),
    ("POST", "/ingest/batch"),
    ("POST", "/packets"),
    ("POST", "/sensors/{identifier}/measurements"),
    ("POST", "/sensors/{identifier}/logs"),
    ("POST", "/sensors/{identifier}/heartbeats"),
}
WIFI = "the-password-of-a-wireless-network"
SIGNATURE = "what-posts-to-a-webhook-are-signed-with"
NEW_PASSWORD = "another password"
FORGED = "wrong password"


@dataclasses.dataclass(frozen=True)
class Case:
    """A request that changes something, and what it enters, oldest first."""

    body: object
    entered: tuple[str, ...]
    # A log-in is anonymous until it has succeeded; a new account logs itself in.
    actors: tuple[tuple[str, str], ...] = (("user", "ada"),)
    status: int | None = None


def case(*entered, body=None, actors=(("user", "ada"),), status=None):
    return Case(body, entered, actors * len(entered) if len(actors) == 1 else actors, status)


CONFIGURATION = {"configuration": {"wifi": WIFI}}
CASES = {
    ("POST", "/users"): case(
        "user.create",
        "user.log_in",
        body={"username": "{new}", "password": PASSWORD},
        actors=(("anonymous", "anonymous"), ("user", "{new}")),
    ),
    ("POST", "/setup"): case(
        "user.create",
        "user.log_in",
        body={"username": "{new}", "password": PASSWORD, "code": ADMIN_KEY},
        actors=(("system", "setup"), ("user", "{new}")),
    ),
    ("POST", "/authentication"): case(
        "user.log_in", body={"username": "ada", "password": PASSWORD}
    ),
    ("DELETE", "/authentication"): case("user.log_out"),
    ("DELETE", "/users/me/sessions/{session_id}"): case("user.log_out"),
    ("PUT", "/users/me/password"): case(
        "user.change_password", body={"password": PASSWORD, "new_password": NEW_PASSWORD}
    ),
    ("POST", "/tickets"): case("user.make_ticket"),
    ("POST", "/networks"): case("network.create", "member.create", body={"network_name": "{new}"}),
    ("PUT", "/networks/{network_identifier}"): case(
        "network.change", body={"network_name": "{new}"}
    ),
    ("DELETE", "/networks/{network_identifier}"): case("network.delete"),
    ("PUT", "/networks/{network_identifier}/members/{username}"): case(
        "member.change", body={"role": "editor"}
    ),
    ("DELETE", "/networks/{network_identifier}/members/{username}"): case("member.delete"),
    ("POST", "/networks/{network_identifier}/configurations"): case(
        "sensor.configure", body=CONFIGURATION
    ),
    ("POST", "/sensors"): case(
        "sensor.create",
        body={"sensor_name": "{new}", "network_identifier": "{network}", **CONFIGURATION},
    ),
    ("PUT", "/sensors/{identifier}"): case(
        "sensor.change", "sensor.configure", body={"name": "{new}", **CONFIGURATION}
    ),
    ("PUT", "/networks/{network_identifier}/retention"): case(
        "network.change", body={"raw_days": 30}
    ),
    ("PUT", "/sensors/{identifier}/retention"): case("sensor.change", body={"log_days": 0}),
    ("PATCH", "/sensors/{identifier}"): case("sensor.change", body={"name": "{new}"}),
    ("DELETE", "/sensors/{identifier}"): case("sensor.delete"),
    ("POST", "/sensors/{identifier}/configurations"): case("sensor.configure", body=CONFIGURATION),
    ("POST", "/devices"): case(
        "sensor.create", body={"device_id": "{new}", "network_identifier": "{network}"}
    ),
    ("POST", "/devices/batch"): case(
        "sensor.create",
        "sensor.create",
        body=[
            {"device_id": "{new}", "network_identifier": "{network}"},
            {"device_id": "{new}-2", "network_identifier": "{network}"},
        ],
    ),
    ("PATCH", "/devices/{device_id}"): case("sensor.change", body={"name": "{new}"}),
    ("DELETE", "/devices/{device_id}"): case("sensor.change"),
    ("POST", "/devices/{device_id}/key"): case("sensor.change_key"),
    ("DELETE", "/devices/{device_id}/key"): case("sensor.revoke_key"),
    ("POST", "/nodes"): case(
        "node.create",
        body={
            "serial_number": "{new}",
            "firmware_version": "1",
            "network_identifier": "{network}",
        },
    ),
    ("PUT", "/nodes/{node_id}"): case("node.change", body={"name": "{new}"}),
    ("PATCH", "/nodes/{node_id}"): case("node.change", body={"firmware_version": "{new}"}),
    ("DELETE", "/nodes/{node_id}"): case("node.delete"),
    ("POST", "/rules"): case(
        "rule.create", body={**ANY_RULE, "name": "{new}", "network_identifier": "{network}"}
    ),
    ("PUT", "/rules/{rule_id}"): case("rule.change", body={"for": 60}),
    ("PATCH", "/rules/{rule_id}"): case("rule.change", body={"enabled": False}),
    ("DELETE", "/rules/{rule_id}"): case("rule.delete"),
    ("POST", "/channels"): case(
        "channel.create",
        body={
            "name": "{new}",
            "type": "webhook",
            "url": "https://example.org/",
            "secret": SIGNATURE,
            "network_identifier": "{network}",
        },
    ),
    ("PUT", "/channels/{channel_id}"): case("channel.change", body={"name": "{new}"}),
    ("PATCH", "/channels/{channel_id}"): case("channel.change", body={"enabled": False}),
    ("DELETE", "/channels/{channel_id}"): case("channel.delete"),
    ("POST", "/actions/{action_id}/repeat"): case("action.repeat"),
    ("POST", "/messages/{message_id}/resubmit"): case("message.resubmit"),
    ("POST", "/messages/resubmit"): case("message.resubmit", body={"sensor": "{device}"}),
    ("POST", "/alerts/{alert_id}/acknowledge"): case("alert.acknowledge", body={"comment": "x"}),
    ("POST", "/alerts/{alert_id}/clear"): case("alert.clear"),
    ("POST", "/silences"): case(
        "silence.create", body={"network_identifier": "{network}", "ends_at": SOON}
    ),
    ("PUT", "/silences/{silence_id}"): case("silence.change", body={"comment": "{new}"}),
    ("DELETE", "/silences/{silence_id}"): case("silence.end"),
    ("POST", "/sensors/{identifier}/annotations"): case(
        "annotation.create", body={"text": "{new}", "start": 1}
    ),
    ("PUT", "/sensors/{identifier}/annotations/{annotation_id}"): case(
        "annotation.change", body={"text": "{new}"}
    ),
    ("PATCH", "/sensors/{identifier}/annotations/{annotation_id}"): case(
        "annotation.change", body={"start": 1}
    ),
    ("DELETE", "/sensors/{identifier}/annotations/{annotation_id}"): case("annotation.delete"),
    ("POST", "/networks/{network_identifier}/boards"): case("board.create", body={"name": "{new}"}),
    ("PUT", "/networks/{network_identifier}/boards/{board_id}"): case(
        "board.change", body={"name": "{new}"}
    ),
    ("DELETE", "/networks/{network_identifier}/boards/{board_id}"): case("board.delete"),
    ("POST", "/nodes/{node_id}/sensors"): case("sensor.change", body={"sensor_id": "{device}"}),
    ("DELETE", "/nodes/{node_id}/sensors/{sensor_id}"): case("sensor.change"),
}


@pytest.fixture(params=SQLITE_FIRST)
def engine(request):
    return request.param


class World:
    """A server on which Ada owns a network, and resources that are made anew for each case."""

    def __init__(self, here):
        self.here = here
        self.store = here.services.store
        self.secrets = {ADMIN_KEY, SHARED_KEY, PASSWORD, NEW_PASSWORD, FORGED, WIFI, SIGNATURE}

    async def fill(self):
        self.ada = await self.here.account("ada")
        self.secrets.add(self.ada.password_hash)

    async def entries(self, **filters):
        """Return all entries, oldest first."""
        return (await self.store.audit.list(limit=100_000, **filters))[::-1]

    async def since(self, number):
        """Return the few entries that came after one, oldest first."""
        entries = (await self.store.audit.list(limit=10))[::-1]
        assert entries[0].id <= number
        return [entry for entry in entries if entry.id > number]

    async def given(self, path, number):
        """Return the names of what a request may need, made for it alone."""
        given = {"new": f"new-{number}", "device": f"pump-{number}", "member": f"member-{number}"}
        given["network"] = await self.here.network(f"network {number}", ada="owner")
        if path == "/networks/{network_identifier}":
            return given  # one that can be deleted
        key = await self.here.device(given["device"], network_identifier=given["network"])
        self.secrets.add(key["x-api-key"])
        given["node"] = str(uuid.uuid4())
        await self.store.nodes.create(
            identifier=given["node"],
            network_identifier=given["network"],
            serial_number=f"serial-{number}",
            created_at=1,
        )
        if "{rule_id}" in path:
            given["rule"] = await rule_in(self.here, given["network"])
        if "{channel_id}" in path:
            given["channel"] = await channel_in(self.here, given["network"])
        if "{action_id}" in path:
            given["action"] = await action_in(self.here, given["network"])
        if path.startswith("/messages"):
            given["message"] = await self.rejected(given["device"])
        if "{alert_id}" in path:
            given["alert"] = await alert_in(self.here, given["network"])
        if "{annotation_id}" in path:
            given["annotation"] = await annotation_in(self.here, given["device"])
        if "{board_id}" in path:
            given["board"] = await board_in(self.here, given["network"])
        if "{silence_id}" in path:
            given["silence"] = await silence_in(self.here, given["network"])
        if "{sensor_id}" in path:
            sensor = await self.store.sensors.find(given["device"])
            await self.store.sensors.change(sensor.number, node_identifier=given["node"])
        account = await self.here.account(given["member"])
        await self.store.networks.set_member(given["network"], account.identifier, 1, 1)
        await self.here.services.registry.changed()
        return given

    async def rejected(self, device_id):
        """Return the id of a message of the device's that is kept as rejected, and is right."""
        services = self.here.services
        sensor = await services.registry.find(device_id)
        await services.http_ingest.reject(
            b'{"value": 1}',
            Fault(None, RejectionReason.UNKNOWN_SENSOR, "There is no such sensor"),
            Principal("device", f"device:{device_id}", sensor=sensor.number),
            f"measurements/{device_id}",
            sensor,
        )
        [message] = await self.store.rejected.list(limit=1)
        return str(message.id)

    async def login(self):
        """Return the headers of a fresh session of Ada's, whose password is the usual one."""
        await self.store.accounts.change_password(self.ada.identifier, self.ada.password_hash)
        session = await self.here.session(self.ada)
        await self.here.services.registry.changed()
        self.secrets.add(session["authorization"].removeprefix("Bearer "))
        return session

    async def request(self, method, path, *, given, body=None, headers=None):
        response = await self.here.http.request(
            method, in_path(path, given), json=filled(body, given), headers=headers
        )
        if response.content:
            self.keep_secrets(response.json())
        return response

    def keep_secrets(self, answer):
        for one in answer if isinstance(answer, list) else [answer]:
            if isinstance(one, dict):
                names = ("api_key", "access_token", "ticket")
                self.secrets.update(one[name] for name in names if name in one)

    async def rows(self):
        """Return the text of every row as the database has it."""
        return [
            repr(msgspec.structs.astuple(entry)) + bytes(entry.changes).decode()
            for entry in await self.entries()
        ]


# What brokers ask by POST changes nothing, and nor do dry runs and a test of a channel.
QUESTIONS = {
    ("POST", "/rules/test"),
    ("POST", "/channels/{channel_id}/test"),
    ("POST", "/networks/{network_identifier}/import-preview"),
    ("POST", "/networks/{network_identifier}/retention-preview"),
} | {
    ("POST", f"/broker/{asked}")
    for asked in (
        "emqx/authentication",
        "emqx/authorization",
        "rabbitmq/user",
        "rabbitmq/vhost",
        "rabbitmq/resource",
        "rabbitmq/topic",
    )
}


async def test_every_route_that_changes_something_is_known_here(site):
    async with site() as here:
        changing = {route for route in await routes(here) if route[0] in CHANGING}
        assert changing == {*CASES, *INGEST, *QUESTIONS}


async def test_every_change_is_entered_and_no_secret_is(site, database_url):
    async with site(database_url=database_url) as here:
        world = World(here)
        await world.fill()
        for number, ((method, path), wanted) in enumerate(CASES.items()):
            given = await world.given(path, number)
            headers = {} if path == "/users" else await world.login()
            if "{session_id}" in path:
                given["session"] = await session_of(here, world.ada)
            [newest] = await world.store.audit.list(limit=1)
            response = await world.request(
                method, path, given=given, body=wanted.body, headers=headers
            )
            assert response.status_code < 300, (method, path, response.text)
            entered = await world.since(newest.id)
            told = [entry.action for entry in entered]
            assert told == list(wanted.entered), (method, path)
            actors = [(entry.actor_kind, entry.actor_name) for entry in entered]
            assert actors == [(k, filled(n, given)) for k, n in wanted.actors], (method, path)
            for entry in entered:
                assert abs(entry.timestamp - now()) < 60_000_000
                assert entry.address == "127.0.0.1"
                assert entry.resource_identifier, (method, path)
                assert entry.resource_name, (method, path)
                of_user = entry.action.startswith("user.")
                assert (entry.network_identifier is None) == of_user, (method, path)
        wrong = {"username": "ada", "password": FORGED}
        assert (await here.http.post("/authentication", json=wrong)).status_code == 401
        asked = await here.http.get("/audit", params={"limit": 10_000}, headers=ADMIN)
        rows = await world.rows()
        assert len(rows) == len(asked.json()) > 100
        assert len(world.secrets) > 60
        for secret in world.secrets:
            assert secret not in asked.text
            assert not [row for row in rows if secret in row]


async def entered_by(world, method, path, **options):
    """Return what a request enters, with its answer's status."""
    known = await world.entries()
    response = await world.request(method, path, **{"given": {}, **options})
    return response.status_code, [
        (entry.action, msgspec.json.decode(entry.changes)) for entry in await world.entries()
    ][len(known) :]


async def test_what_changes_nothing_is_not_entered(site, database_url):
    async with site(database_url=database_url) as here:
        world = World(here)
        await world.fill()
        given = await world.given("", 1)
        ada = await world.login()
        network = "/networks/{network_identifier}"
        for method, path, body, first in (
            (
                "PUT",
                "/sensors/{identifier}",
                {"name": "pump"},
                [("sensor.change", {"name": {"old": None, "new": "pump"}})],
            ),
            (
                "PATCH",
                "/devices/{device_id}",
                {"is_active": False},
                [("sensor.change", {"is_active": {"old": True, "new": False}})],
            ),
            (
                "PUT",
                "/nodes/{node_id}",
                {"name": "box"},
                [("node.change", {"name": {"old": None, "new": "box"}})],
            ),
            (
                "PUT",
                network,
                {"network_name": "pumps"},
                [("network.change", {"network_name": {"old": "network 1", "new": "pumps"}})],
            ),
            (
                "PUT",
                network + "/members/{username}",
                {"role": "owner"},
                [("member.change", {"role": {"old": "viewer", "new": "owner"}})],
            ),
        ):
            options = {"given": given, "body": body, "headers": ada}
            assert await entered_by(world, method, path, **options) == (200, first)
            assert await entered_by(world, method, path, **options) == (200, [])
        options = {"given": given, "headers": ada}
        sensor = "/sensors/{identifier}"
        assert (await entered_by(world, "DELETE", sensor, **options))[1] == [
            ("sensor.delete", {"api_key": {}})
        ]
        assert await entered_by(world, "DELETE", sensor, **options) == (204, [])
        erased = await entered_by(world, "DELETE", sensor + "?data=delete", **options)
        assert erased == (204, [("sensor.erase", {})])
        dry = {"given": given, "headers": ada, "body": {**CONFIGURATION, "dry_run": True}}
        assert await entered_by(world, "POST", network + "/configurations", **dry) == (200, [])


async def test_what_is_refused_is_not_entered(site, database_url):
    async with site(database_url=database_url) as here:
        world = World(here)
        await world.fill()
        given = await world.given("", 1)
        other = await world.given("", 2)
        await here.http.patch(
            f"/sensors/{given['device']}", json={"sensor_name": "pump"}, headers=ADMIN
        )
        ada = await world.login()
        taken = {"device_id": other["device"], "name": "x"}
        device = {"device_id": "fresh", "network_identifier": given["network"]}
        name = {"sensor_name": "pump", "network_identifier": given["network"], **CONFIGURATION}
        for method, path, body, status in (
            ("PATCH", "/devices/{device_id}", taken, 409),
            ("POST", "/sensors", name, 409),
            ("POST", "/devices/batch", [device, {**device, "name": "y"}], 409),
            ("PUT", "/networks/{network_identifier}", {"network_name": "network 2"}, 409),
            ("DELETE", "/networks/{network_identifier}", None, 409),
            ("DELETE", "/networks/{network_identifier}/members/ada", None, 409),
            ("POST", "/users", {"username": "ada", "password": PASSWORD}, 409),
            ("PATCH", "/sensors/{identifier}", {"name": 5}, 422),
            ("PATCH", "/sensors/nobody", {"name": "x"}, 404),
        ):
            options = {"given": given, "body": body, "headers": ada}
            assert await entered_by(world, method, path, **options) == (status, []), path


async def test_who_else_may_be_the_actor(site):
    async with site(anonymous_role="editor", auto_provision=True) as here:
        world = World(here)
        await here.http.post("/devices", json={"device_id": "a"})
        await here.http.post("/devices", json={"device_id": "b"}, headers=ADMIN)
        root = await here.user("root", is_admin=True)
        await here.http.post("/devices", json={"device_id": "c"}, headers=root)
        await here.http.post("/ingest", json={"device_id": "d", "t": 1}, headers=SHARED)
        made = await world.entries(action="sensor.create")
        assert [(e.actor_kind, e.actor_name, e.address, e.resource_name) for e in made] == [
            ("anonymous", "anonymous", "127.0.0.1", "a"),
            ("admin_key", "admin", "127.0.0.1", "b"),
            ("user", "root", "127.0.0.1", "c"),
            ("system", "auto-provision", None, "d"),
        ]


async def test_what_moves_is_entered_for_both_networks(site, database_url):
    async with site(database_url=database_url) as here:
        world = World(here)
        await world.fill()
        one, two = [await world.given("", number) for number in (1, 2)]
        body = {"network_identifier": two["network"]}
        await here.http.patch(f"/sensors/{one['device']}", json=body, headers=ADMIN)
        for network in (one["network"], two["network"]):
            entry = (await world.entries(networks=[network]))[-1]
            assert entry.action == "sensor.change"
            assert entry.resource_name == one["device"]
            assert msgspec.json.decode(entry.changes) == {
                "network_identifier": {"old": one["network"], "new": two["network"]}
            }


async def test_wrong_passwords_are_entered_up_to_a_bound(site, database_url):
    async with site(database_url=database_url) as here:
        world = World(here)
        await world.fill()

        async def wrong(username, times=1):
            for _ in range(times):
                body = {"username": username, "password": FORGED}
                response = await here.http.post("/authentication", json=body)
                assert response.status_code == 401
            return await world.entries(action="user.fail_to_log_in")

        # A password that was typed where the name belongs is no name to keep.
        (entry,) = await wrong(WIFI)
        assert (entry.resource_identifier, entry.resource_name) == (None, None)
        (_, entry) = await wrong("ada")
        assert (entry.resource_identifier, entry.resource_name) == (world.ada.identifier, "ada")
        assert (entry.actor_kind, entry.actor_name) == ("anonymous", "anonymous")
        assert entry.address == "127.0.0.1"
        assert msgspec.json.decode(entry.changes) == {}
        assert len(await wrong("ada", 12)) == 11
        left_out = (await wrong("bob"))[-1]
        assert msgspec.json.decode(left_out.changes) == {"left_out_before": {"new": 3}}
        ada = await world.login()
        body = {"password": FORGED, "new_password": NEW_PASSWORD}
        here.services.authenticator._failed = FailedLogIns(world.store.audit, Limiter(0))
        refused = await here.http.put("/users/me/password", json=body, headers=ada)
        assert refused.status_code == 401
        entry = (await world.entries(action="user.fail_to_log_in"))[-1]
        assert (entry.actor_kind, entry.actor_name, entry.resource_name) == ("user", "ada", "ada")
        assert not [row for row in await world.rows() if WIFI in row or FORGED in row]


async def test_the_number_of_wrong_passwords_is_bounded_in_all(site):
    async with site() as here:
        world = World(here)
        for number in range(120):
            await here.services.authenticator._failed.enter(f"user-{number}", None, "10.0.0.1")
        assert len(await world.entries(action="user.fail_to_log_in")) == 100


async def read(here, headers, **params):
    response = await here.http.get("/audit", params=params, headers=headers)
    return response.status_code, response.json()


async def test_owners_read_what_became_of_their_networks(site):
    async with site() as here:
        world = World(here)
        await world.fill()
        users = {name: await here.user(name) for name in ("eve", "vic", "edd")}
        own = await here.network("own", ada="owner", vic="viewer", edd="editor")
        second = await here.network("second", ada="owner")
        foreign = await here.network("foreign", eve="owner")
        key = await here.device("pump-1", network_identifier=own)
        await here.device("pump-2", network_identifier=foreign)
        ada = await world.login()
        status, entries = await read(here, ada)
        assert status == 200
        assert {entry["network_identifier"] for entry in entries} == {own, second}
        created = next(entry for entry in entries if entry["action"] == "sensor.create")
        identifier = (await world.store.sensors.find("pump-1")).identifier
        assert created | {"id": "", "timestamp": ""} == {
            "id": "",
            "timestamp": "",
            "actor_kind": "admin_key",
            "actor": "admin",
            "address": "127.0.0.1",
            "action": "sensor.create",
            "resource_kind": "sensor",
            "resource_identifier": identifier,
            "resource_name": "pump-1",
            "network_identifier": own,
            "changes": {"device_id": {"new": "pump-1"}, "api_key": {}},
        }
        status, entries = await read(here, ada, network_identifier=own.upper())
        assert {entry["network_identifier"] for entry in entries} == {own}
        # A resource of a foreign network is none.
        assert await read(here, ada, resource="pump-2") == (200, [])
        assert len((await read(here, users["eve"], resource="pump-2"))[1]) == 1
        for name in ("vic", "edd"):
            assert await read(here, users[name]) == (200, [])
            assert (await read(here, users[name], network_identifier=own))[0] == 403
        assert (await read(here, key, network_identifier=own))[0] == 403
        unknown = {"detail": "Network not found", "code": "NETWORK_NOT_FOUND"}
        for name in (foreign, *UNKNOWN["network"][:2]):
            assert await read(here, ada, network_identifier=name) == (404, unknown)
        assert (await read(here, ada, network_identifier="\0"))[0] == 422
        vic = await world.store.accounts.find_username("vic")
        await world.store.networks.set_member(own, vic.identifier, Role.OWNER, 1)
        await here.services.registry.changed()
        assert (await read(here, users["vic"]))[1]


async def test_entries_outlive_their_resource_and_their_network(site, database_url):
    async with site(database_url=database_url) as here:
        world = World(here)
        await world.fill()
        network = await here.network("short-lived", ada="owner")
        await here.device("pump-1", network_identifier=network)
        await here.http.delete("/sensors/pump-1?data=delete", headers=ADMIN)
        gone = await here.http.delete(f"/networks/{network}", headers=ADMIN)
        assert gone.status_code == 204
        status, entries = await read(here, ADMIN, network_identifier=network)
        assert status == 200
        assert [entry["action"] for entry in entries] == [
            "network.delete",
            "sensor.erase",
            "sensor.delete",
            "sensor.create",
            "member.create",
            "network.create",
        ]
        assert [entry["resource_name"] for entry in entries[:4]] == ["short-lived"] + ["pump-1"] * 3
        ada = await world.login()
        assert (await read(here, ada, network_identifier=network))[0] == 404
        assert (await read(here, ADMIN, network_identifier=str(uuid.uuid4())))[0] == 404
        # With a filter that nothing passes, it is known all the same.
        assert await read(here, ADMIN, network_identifier=network, actor="x") == (200, [])


async def test_filters_and_pages(site, database_url):
    async with site(database_url=database_url) as here:
        world = World(here)
        await world.fill()
        ada = await world.login()
        network = await here.network("own", ada="owner")
        body = [{"device_id": f"pump-{n}", "network_identifier": network} for n in range(25)]
        await here.http.post("/devices/batch", json=body, headers=ada)
        await here.http.patch("/devices/pump-3", json={"name": "x"}, headers=ADMIN)
        _, every = await read(here, ADMIN)
        times = [entry["timestamp"] for entry in every]
        assert times == sorted(times, reverse=True)

        async def ids(**params):
            status, entries = await read(here, ADMIN, **params)
            assert status == 200
            return {entry["resource_name"] for entry in entries}

        assert await ids(action="sensor.change") == {"pump-3"}
        assert await ids(actor="admin", actor_kind="admin_key") == {"pump-3"}
        assert await ids(actor="ada", resource="pump-4") == {"pump-4"}
        identifier = (await world.store.sensors.find("pump-5")).identifier
        assert await ids(resource=identifier) == {"pump-5"}
        assert len((await read(here, ADMIN, resource="pump-3"))[1]) == 2
        middle = every[10]["timestamp"]
        newer = [entry for entry in every if entry["timestamp"] >= middle]
        assert (await read(here, ADMIN, start=middle))[1] == newer
        assert (await read(here, ADMIN, end=middle))[1] == every[len(newer) :]
        assert await read(here, ADMIN, start=to_rfc3339(now() + 10**9)) == (200, [])
        for params in (
            {"action": "sensor.nothing"},
            {"actor_kind": "x"},
            {"limit": 0},
            {"limit": 10_001},
            {"start": "soon"},
            {"cursor": "x"},
            {"resource": "\0"},
        ):
            assert (await read(here, ADMIN, **params))[0] == 422, params
        for headers, wanted in ((ADMIN, {}), (ada, {"network_identifier": network})):
            _, whole = await read(here, headers, action="sensor.create", **wanted)
            url = "/audit?action=sensor.create&limit=7&actor=ada"
            if wanted:
                url += f"&network_identifier={network}"
            assert await followed(here, url, headers) == whole
            assert len(whole) == 25


async def followed(here, url, headers):
    """Return the entries of all pages, by their links."""
    found = []
    while url:
        response = await here.http.get(url, headers=headers)
        assert len(response.json()) <= 7
        found += response.json()
        url = response.links.get("next", {}).get("url")
        if url:
            assert dict(parse_qsl(urlsplit(url).query))["action"] == "sensor.create"
    return found


async def test_a_server_deletes_what_is_older_than_audit_days(site, database_url, monkeypatch):
    store = await open_store(database_url)
    for days in (11, 9):
        monkeypatch.setattr(audit_module, "now", lambda age=days: now() - age * DAY)
        await store.audit.enter(SYSTEM, AuditedChange(AuditAction.NODE_CHANGE, name=f"{days} days"))
    await store.close()
    async with site(database_url=database_url, audit_days=10) as here, asyncio.timeout(60):
        entries = await World(here).entries()
        while len(entries) > 1:
            entries = await World(here).entries()
        assert [entry.resource_name for entry in entries] == ["9 days"]
