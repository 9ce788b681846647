"""Networks: what their members may do in them, and who remains."""

import asyncio
import uuid

import pytest

from heliograph.access.policy import role_in
from heliograph.model.time import MINUTE, now, parse
from integration.http.conftest import ADMIN

ROOF = {"network_name": "roof"}


async def code(answer):
    response = await answer
    return response.status_code, response.json()["code"] if response.content else None


async def made(here, user, name="roof"):
    """Make a network and return its path."""
    response = await here.http.post("/networks", json={"network_name": name}, headers=user)
    assert response.status_code == 201, response.text
    return f"/networks/{response.json()['network_identifier']}"


async def join(here, path, owner, username, role="viewer"):
    response = await here.http.put(f"{path}/members/{username}", json={"role": role}, headers=owner)
    assert response.status_code == 200, response.text
    return response


async def test_who_makes_a_network_owns_it(site):
    async with site() as here:
        ada, bob = await here.user("ada"), await here.user("bob")
        response = await here.http.post("/networks", json=ROOF, headers=ada)
        body = response.json()
        assert response.status_code == 201
        assert str(uuid.UUID(body["network_identifier"])) == body["network_identifier"]
        assert abs(parse(body["created_at"]) - now()) < MINUTE
        assert (body["network_name"], body["role"]) == ("roof", "owner")
        path = f"/networks/{body['network_identifier']}"
        assert (await here.http.get(path, headers=ada)).json() == body
        assert (
            await here.http.get(path.upper().replace("NETWORKS", "networks"), headers=ada)
        ).json() == body
        members = (await here.http.get(f"{path}/members", headers=ada)).json()
        assert [(member["username"], member["role"]) for member in members] == [("ada", "owner")]
        assert await code(here.http.get(path, headers=bob)) == (404, "NETWORK_NOT_FOUND")
        # The admin key is nobody's: what it makes belongs to no account.
        cellar = await made(here, ADMIN, "cellar")
        assert (await here.http.get(f"{cellar}/members", headers=ADMIN)).json() == []
        assert (await here.http.get(cellar, headers=ADMIN)).json()["role"] == "owner"


async def test_a_given_network_identifier_is_taken_and_only_once(site):
    async with site() as here:
        ada, bob = await here.user("ada"), await here.user("bob")
        identifier = "0a71a8d8-40c6-4086-a64e-58e38350cb53"
        body = {"network_name": "kanto", "network_identifier": identifier.upper()}
        created = await here.http.post("/networks", json=body, headers=ada)
        assert (created.status_code, created.json()["network_identifier"]) == (201, identifier)
        again = {**body, "network_name": "johto"}
        in_use = (409, "NETWORK_ALREADY_REGISTERED")
        for user in (ada, bob):
            assert await code(here.http.post("/networks", json=again, headers=user)) == in_use
        default = here.services.registry.default_network
        taken = {"network_name": "johto", "network_identifier": default}
        assert await code(here.http.post("/networks", json=taken, headers=bob)) == in_use
        # Who takes the place of a network that is gone would be shown what became of it.
        gone = await here.http.delete(f"/networks/{identifier}", headers=ada)
        assert gone.status_code == 204
        assert await code(here.http.post("/networks", json=again, headers=bob)) == in_use
        wrong = {"network_name": "johto", "network_identifier": "x"}
        assert (await here.http.post("/networks", json=wrong, headers=ada)).status_code == 422


async def test_each_sees_his_own_networks(site):
    async with site() as here:
        ada, bob = await here.user("ada"), await here.user("bob")
        paths = [await made(here, ada, name) for name in ("roof", "cellar", "attic")]
        await join(here, paths[1], ada, "bob")

        async def listed(user, query=""):
            response = await here.http.get(f"/networks{query}", headers=user)
            names = [network["network_name"] for network in response.json()]
            return names, response.headers["x-total-count"]

        assert await listed(ada) == (["roof", "cellar", "attic"], "3")
        assert await listed(ada, "?offset=1&limit=1") == (["cellar"], "3")
        assert await listed(bob) == (["cellar"], "1")
        assert await listed(ADMIN) == (["default", "roof", "cellar", "attic"], "4")
        roles = (await here.http.get("/networks", headers=bob)).json()
        assert [network["role"] for network in roles] == ["viewer"]


async def test_names_are_unique_and_can_be_changed(site):
    async with site() as here:
        ada, bob = await here.user("ada"), await here.user("bob")
        path = await made(here, ada)
        taken = (409, "NETWORK_NAME_ALREADY_REGISTERED")
        assert await code(here.http.post("/networks", json=ROOF, headers=bob)) == taken
        cellar = await made(here, ada, "cellar")
        assert await code(here.http.put(cellar, json=ROOF, headers=ada)) == taken
        renamed = await here.http.put(path, json={"network_name": "attic"}, headers=ada)
        assert (renamed.status_code, renamed.json()["network_name"]) == (200, "attic")
        assert (await here.http.put(cellar, json=ROOF, headers=ada)).status_code == 200
        for name in ("", "x" * 256, "a\0", None, 5):
            body = {"network_name": name}
            for call in (
                here.http.post("/networks", json=body, headers=ada),
                here.http.put(path, json=body, headers=ada),
            ):
                assert await code(call) == (422, "VALIDATION_FAILED")


async def test_the_first_network_keeps_its_name_and_stays(site):
    async with site() as here:
        default = f"/networks/{here.services.registry.default_network}"
        assert await code(here.http.put(default, json=ROOF, headers=ADMIN)) == (403, "FORBIDDEN")
        assert await code(here.http.delete(default, headers=ADMIN)) == (403, "FORBIDDEN")
        same = await here.http.put(default, json={"network_name": "default"}, headers=ADMIN)
        assert same.status_code == 200


async def test_a_network_with_sensors_stays(site):
    async with site() as here:
        ada = await here.user("ada")
        path = await made(here, ada)
        await here.device("pump-1", network_identifier=path.rpartition("/")[2])
        assert await code(here.http.delete(path, headers=ada)) == (409, "NETWORK_NOT_EMPTY")
        # A sensor that was taken out of service has its data there still.
        await here.http.delete("/devices/pump-1", headers=ada)
        assert await code(here.http.delete(path, headers=ada)) == (409, "NETWORK_NOT_EMPTY")
        empty = await made(here, ada, "cellar")
        gone = await here.http.delete(empty, headers=ada)
        assert (gone.status_code, gone.content) == (204, b"")
        assert await code(here.http.delete(empty, headers=ada)) == (404, "NETWORK_NOT_FOUND")


async def test_members_come_change_and_go(site):
    async with site() as here:
        ada, bob = await here.user("ada"), await here.user("bob")
        path = await made(here, ada)
        member = f"{path}/members/bob"
        assert await code(here.http.get(member, headers=ada)) == (404, "MEMBER_NOT_FOUND")
        for role in ("viewer", "editor", "owner", "viewer"):
            joined = await join(here, path, ada, "bob", role)
            assert set(joined.json()) == {"username", "user_identifier", "role"}
            assert (await here.http.get(member, headers=bob)).json() == joined.json()
            assert (await here.http.get(path, headers=bob)).json()["role"] == role
        unknown = here.http.put(f"{path}/members/eve", json={"role": "viewer"}, headers=ada)
        assert await code(unknown) == (404, "USER_NOT_FOUND")
        for role in ("admin", "", None, "OWNER"):
            refused = here.http.put(member, json={"role": role}, headers=ada)
            assert await code(refused) == (422, "VALIDATION_FAILED")
        assert (await here.http.delete(member, headers=ada)).status_code == 204
        assert await code(here.http.delete(member, headers=ada)) == (404, "MEMBER_NOT_FOUND")
        assert await code(here.http.get(path, headers=bob)) == (404, "NETWORK_NOT_FOUND")


async def test_anybody_may_leave_but_not_throw_others_out(site):
    async with site() as here:
        ada, bob = await here.user("ada"), await here.user("bob")
        await here.user("eve")
        path = await made(here, ada)
        await join(here, path, ada, "bob")
        await join(here, path, ada, "eve")
        for other in ("eve", "ada", "nobody"):
            refused = here.http.delete(f"{path}/members/{other}", headers=bob)
            assert await code(refused) == (403, "FORBIDDEN")
        assert (await here.http.delete(f"{path}/members/bob", headers=bob)).status_code == 204
        assert await code(here.http.get(path, headers=bob)) == (404, "NETWORK_NOT_FOUND")


async def test_the_last_owner_stays(site):
    async with site() as here:
        ada, _ = await here.user("ada"), await here.user("bob")
        path = await made(here, ada)
        last = (409, "LAST_OWNER")
        mine = f"{path}/members/ada"
        assert await code(here.http.delete(mine, headers=ada)) == last
        assert await code(here.http.put(mine, json={"role": "editor"}, headers=ada)) == last
        assert await code(here.http.delete(mine, headers=ADMIN)) == last
        await join(here, path, ada, "ada", "owner")
        await join(here, path, ada, "bob", "owner")
        assert (await here.http.delete(mine, headers=ada)).status_code == 204


async def test_two_owners_who_leave_at_once_leave_one(site):
    async with site() as here:
        users = {name: await here.user(name) for name in ("ada", "bob")}
        path = await made(here, users["ada"])
        await join(here, path, users["ada"], "bob", "owner")
        left = await asyncio.gather(
            *(here.http.delete(f"{path}/members/{name}", headers=users[name]) for name in users)
        )
        assert sorted(answer.status_code for answer in left) == [204, 409]
        assert len((await here.http.get(f"{path}/members", headers=ADMIN)).json()) == 1


async def test_who_is_removed_or_demoted_loses_access_at_once(site):
    async with site() as here:
        ada, bob = await here.user("ada"), await here.user("bob")
        path = await made(here, ada)
        await here.device("pump-1", network_identifier=path.rpartition("/")[2])
        data = "/sensors/pump-1/measurements"

        async def may(user):
            sent = await here.http.post(data, json={"value": 1}, headers=user)
            read = await here.http.get(data, headers=user)
            listed = await here.http.get("/devices", headers=user)
            return sent.status_code, read.status_code, len(listed.json())

        assert await may(bob) == (404, 404, 0)
        await join(here, path, ada, "bob", "editor")
        assert await may(bob) == (201, 200, 1)
        await join(here, path, ada, "bob", "viewer")
        assert await may(bob) == (403, 200, 1)
        # Also where another process says so.
        bobs = await here.services.store.accounts.find_username("bob")
        await here.services.store.networks.remove_member(path.rpartition("/")[2], bobs.identifier)
        await here.services.registry.changed()
        assert await may(bob) == (404, 404, 0)


async def test_nothing_is_concluded_from_a_role_that_has_ended(site, monkeypatch):
    """What is asked while the change is being read must not be kept beyond it."""
    async with site() as here:
        ada, bob = await here.user("ada"), await here.user("bob")
        path = await made(here, ada)
        network = path.rpartition("/")[2]
        await join(here, path, ada, "bob", "editor")
        await here.http.get(path, headers=bob)
        registry = here.services.registry
        bobs = await here.services.store.accounts.find_username("bob")
        principal = await here.services.authenticator.session(
            bob["authorization"].split()[1], "session", now()
        )
        seen = []
        known = here.services.store.accounts.known

        async def slow(accounts):
            seen.append((registry.generation, role_in(principal, network, registry.grants)))
            return await known(accounts)

        await here.services.store.networks.remove_member(network, bobs.identifier)
        monkeypatch.setattr(here.services.store.accounts, "known", slow)
        before = registry.generation
        await registry.changed()
        # As long as the old role held, so did the generation that routes are kept by.
        assert seen == [(before, 2)]
        assert registry.generation > before
        assert role_in(principal, network, registry.grants) == 0


async def test_sensors_and_devices_are_listed_by_network(site):
    async with site() as here:
        ada, bob = await here.user("ada"), await here.user("bob")
        roof, cellar = await made(here, ada), await made(here, bob, "cellar")
        for number, path in enumerate((roof, cellar, roof)):
            await here.device(f"pump-{number}", network_identifier=path.rpartition("/")[2])
        await here.device("pump-9")

        async def listed(path, user):
            response = await here.http.get(path, headers=user)
            assert response.status_code == 200, (path, response.text)
            names = [sensor["device_id"] for sensor in response.json()]
            assert response.headers["x-total-count"] == str(len(names))
            return names

        assert await listed("/devices", ada) == ["pump-0", "pump-2"]
        assert await listed("/devices", bob) == ["pump-1"]
        assert await listed(f"{roof}/sensors", ada) == ["pump-0", "pump-2"]
        assert await listed("/devices", ADMIN) == ["pump-0", "pump-1", "pump-2", "pump-9"]
        foreign = cellar.rpartition("/")[2]
        unknown = (str(uuid.uuid4()), "x", "%ff")
        for route in ("devices", "sensors", "nodes", "retention"):
            asked = [(wanted, ada) for wanted in (foreign, foreign.upper(), *unknown)]
            for wanted, user in (*asked, *((wanted, ADMIN) for wanted in unknown)):
                path = f"/{route}?network_identifier={wanted}"
                response = await here.http.get(path, headers=user)
                code = response.json()["code"]
                assert (response.status_code, code) == (404, "NETWORK_NOT_FOUND"), path
        assert await listed(f"/devices?network_identifier={foreign.upper()}", bob) == ["pump-1"]


async def test_a_sensor_moves_between_networks_of_which_both_may_be_edited(site):
    async with site() as here:
        ada = await here.user("ada")
        await here.user("bob")
        own = await made(here, ada)
        networks = {"own": own.rpartition("/")[2]}
        networks["viewed"] = await here.network("viewed", ada="viewer", bob="owner")
        networks["edited"] = await here.network("edited", ada="editor", bob="owner")
        networks["foreign"] = await here.network("foreign", bob="owner")
        await here.device("pump-1", network_identifier=networks["own"])
        for name, expected in (
            ("viewed", (403, "FORBIDDEN")),
            ("foreign", (404, "NETWORK_NOT_FOUND")),
            ("edited", (200, None)),
        ):
            moved = await here.http.patch(
                "/devices/pump-1", json={"network_identifier": networks[name]}, headers=ada
            )
            assert (moved.status_code, moved.json().get("code")) == expected
        # There an editor may do less with it.
        gone = here.http.patch("/devices/pump-1", json={"is_active": False}, headers=ada)
        assert await code(gone) == (403, "FORBIDDEN")
        assert await code(here.http.delete("/devices/pump-1", headers=ada)) == (403, "FORBIDDEN")


async def test_users_register_nothing_on_first_sight(site):
    async with site(auto_provision=True) as here:
        ada, root = await here.user("ada"), await here.user("root", is_admin=True)
        await made(here, ada)
        body = {"device_id": "new-1", "t": 1}
        assert await code(here.http.post("/ingest", json=body, headers=ada)) == (
            404,
            "DEVICE_NOT_FOUND",
        )
        assert (await here.http.post("/ingest", json=body, headers=root)).status_code == 201


@pytest.mark.parametrize("is_admin", [True, False])
async def test_the_network_default_is_for_its_members(site, is_admin):
    async with site() as here:
        ada = await here.user("ada", is_admin=is_admin)
        default = here.services.registry.default_network
        made = await here.http.post("/devices", json={"device_id": "pump-1"}, headers=ada)
        assert made.status_code == (201 if is_admin else 403)
        seen = await here.http.get(f"/networks/{default}", headers=ada)
        assert seen.status_code == (200 if is_admin else 404)
        await join(here, f"/networks/{default}", ADMIN, "ada", "editor")
        body = {"device_id": "pump-2"}
        assert (await here.http.post("/devices", json=body, headers=ada)).status_code == 201
