"""ANONYMOUS_ROLE: where it holds, for whom, and under which names and from which pages."""

import asyncio
import contextlib
import json
import socket

import httpx
import pytest
import websockets

from heliograph.http import foreign_pages
from integration.http.conftest import ADMIN, SHARED
from mqtt_client import Client, publish, published, subscribe

SECONDS = 60
OWN_NETWORK = "0a71a8d8-40c6-4086-a64e-58e38350cb53"


async def callers(here):
    """Return the headers of callers who are nothing to the network `default`."""
    await here.account("eve")
    elsewhere = await here.network("elsewhere", eve="owner")
    eve = await here.services.store.accounts.find_username("eve")
    return {
        "nobody": {},
        "user": await here.session(eve),
        "device": await here.device("far", network_identifier=elsewhere),
        "shared": SHARED,
    }


async def test_every_caller_watches_at_least_what_anonymous_callers_do(site, serving):
    async with site(anonymous_role="viewer") as here, serving(here.web) as port:
        await here.device("pump")
        default = here.services.registry.default_network
        everybody = await callers(here)
        async with asyncio.timeout(SECONDS), contextlib.AsyncExitStack() as stack:
            sockets, streams = {}, {}
            for name, headers in everybody.items():
                for path in ("all", "subscribe/pump"):
                    url = f"ws://127.0.0.1:{port}/api/v1/realtime/{path}"
                    opened = websockets.connect(url, additional_headers=headers)
                    socket_ = await stack.enter_async_context(opened)
                    assert json.loads(await socket_.recv()) == {"type": "ack"}, (name, path)
                    sockets[name, path] = socket_
                client = await stack.enter_async_context(httpx.AsyncClient(timeout=SECONDS))
                for path in ("events", "events?sensor=pump", f"streams/{default}"):
                    url = f"http://127.0.0.1:{port}/{path}"
                    stream = client.stream("GET", url, headers=headers)
                    response = await stack.enter_async_context(stream)
                    assert response.status_code == 200, (name, path)
                    streams[name, path] = response.aiter_lines()
            await here.http.post("/sensors/far/measurements", json={"value": 1}, headers=ADMIN)
            await here.http.post("/sensors/pump/measurements", json={"value": 7}, headers=ADMIN)
            for (name, path), socket_ in sockets.items():
                reading = json.loads(await socket_.recv())
                if name in ("user", "device") and path == "all":  # first his own
                    assert reading["device_id"] == "far"
                    reading = json.loads(await socket_.recv())
                assert reading["data"]["metrics"] == {"value": 7}, (name, path)
            for (name, path), lines in streams.items():
                seen = []
                async for line in lines:
                    if line.startswith("data: {"):
                        seen.append(json.loads(line.removeprefix("data: ")))
                    if seen and seen[-1].get("device_id") == "pump":
                        break
                own = path == "events" and name in ("user", "device")
                assert [event["device_id"] for event in seen] == ["far"] * own + ["pump"], name


async def test_every_device_has_the_anonymous_rights_over_mqtt_too(site):
    async with site(anonymous_role="editor", mqtt_listen="127.0.0.1:0") as here:
        await here.device("pump")
        await here.device("shed", network_identifier=await here.network("private"))
        far = (await callers(here))["device"]["x-api-key"]
        ((_, port),) = here.services.listener.addresses
        client = await Client.connected(port, "c", "far", far)
        client.send(subscribe("measurements/#"))
        assert (await client.packet())[-1] != 0x80
        for device in ("shed", "pump"):
            await here.http.post(
                f"/sensors/{device}/measurements", json={"value": 1}, headers=ADMIN
            )
        assert published(await client.packet()).topic == "measurements/pump"
        client.send(publish("measurements/pump", b'{"value": 2}', packet_id=1))
        client.send(publish("measurements/shed", b'{"value": 2}', packet_id=2))
        answers = {(await client.packet())[0] for _ in range(3)}
        assert answers <= {0x40, 0x30, 0x32}
        for device, stored in (("pump", 2), ("shed", 1)):
            page = await here.http.get(f"/sensors/{device}/measurements", headers=ADMIN)
            assert len(page.json()) == stored
        await client.close()


async def test_the_role_holds_in_default_and_in_the_networks_that_are_named(site):
    async with site(
        anonymous_role="viewer", anonymous_networks=f"roof,{OWN_NETWORK.upper()}"
    ) as here:
        user = await here.user("ada")
        kanto = {"network_name": "kanto", "network_identifier": OWN_NETWORK}
        await here.http.post("/networks", json=kanto, headers=user)
        for name in ("roof", "cellar"):
            await here.http.post("/networks", json={"network_name": name}, headers=user)
        listed = (await here.http.get("/networks")).json()
        assert {each["network_name"] for each in listed} == {"default", "kanto", "roof"}
        assert {each["role"] for each in listed} == {"viewer"}
        known = {
            each["network_name"]: each["network_identifier"]
            for each in (await here.http.get("/networks", headers=ADMIN)).json()
        }
        for name, network in known.items():
            await here.device(f"in-{name}", network_identifier=network)
            expected = 404 if name == "cellar" else 200
            for path in (f"/networks/{network}/latest", f"/sensors/in-{name}/measurements"):
                assert (await here.http.get(path)).status_code == expected, path
        named = (await here.http.get("/devices")).json()
        assert {each["device_id"] for each in named} == {"in-default", "in-kanto", "in-roof"}
        # What is renamed is named no more.
        await here.http.put(f"/networks/{known['roof']}", json={"network_name": "x"}, headers=user)
        assert (await here.http.get("/sensors/in-roof/measurements")).status_code == 404


async def test_a_network_whose_name_differs_in_case_is_not_the_one_that_is_named(site):
    async with site(anonymous_role="viewer", anonymous_networks="Roof") as here:
        for name, status in (("Roof", 200), ("roof", 404)):
            await here.device(f"in-{name}", network_identifier=await here.network(name))
            path = f"/sensors/in-{name}/measurements"
            assert (await here.http.get(path)).status_code == status, name


async def test_what_everybody_sees_of_a_network_ends_with_the_name_that_was_named(site, serving):
    """Streams and sockets that are open, and MQTT sessions, connected and not."""
    options = {"anonymous_networks": "roof", "mqtt_listen": "127.0.0.1:0"}
    async with site(anonymous_role="viewer", **options) as here, serving(here.web) as port:
        roof = await here.network("roof")
        await here.device("pump", network_identifier=roof)
        await here.device("shed")
        ((_, mqtt),) = here.services.listener.addresses

        async def say(value):
            for device in ("pump", "shed"):
                await here.http.post(
                    f"/sensors/{device}/measurements", json={"value": value}, headers=ADMIN
                )

        async def subscribed(name, **options):
            client = await Client.connected(mqtt, name, **options)
            client.send(subscribe("measurements/#"))
            assert (await client.packet())[0] == 0x90
            return client

        async def heard(client):
            client.send(b"\xc0\x00")
            topics = []
            while (answer := await client.packet()) != b"\xd0":
                if answer[0] >> 4 == 3:
                    topics.append(published(answer).topic)
            return topics

        async with asyncio.timeout(SECONDS), contextlib.AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=SECONDS))
            streams = []
            for path in (f"streams/{roof}", "events"):
                stream = http.stream("GET", f"http://127.0.0.1:{port}/{path}")
                streams.append((await stack.enter_async_context(stream)).aiter_lines())
            url = f"ws://127.0.0.1:{port}/api/v1/realtime/all"
            watching = await stack.enter_async_context(websockets.connect(url))
            assert json.loads(await watching.recv()) == {"type": "ack"}
            connected = await subscribed("connected")
            sleeping = await subscribed("sleeping", clean=False)
            await sleeping.close()
            await say(1)
            assert [json.loads(await watching.recv())["device_id"] for _ in range(2)] == [
                "pump",
                "shed",
            ]
            assert await heard(connected) == ["measurements/pump", "measurements/shed"]
            await here.http.put(f"/networks/{roof}", json={"network_name": "x"}, headers=ADMIN)
            await say(2)
            assert json.loads(await watching.recv())["device_id"] == "shed"
            assert await heard(connected) == ["measurements/shed"]
            sleeping = await Client.connected(mqtt, "sleeping", clean=False)
            assert await heard(sleeping) == ["measurements/shed"] * 2
            seen = []
            for lines in streams:
                async for line in lines:
                    if line.startswith("data: {"):
                        event = json.loads(line.removeprefix("data: "))
                        seen.append(event.get("device_id"))
                        if seen[-2:] == ["shed", "shed"]:
                            break
            # The network's stream has ended; the other one goes on with what is left.
            assert seen == ["pump", "pump", "shed", "shed"]
            for client in (connected, sleeping):
                await client.close()


HERE = socket.gethostname().lower()
FIRST = HERE.partition(".")[0]


async def test_foreign_host_names_are_refused_while_the_role_is_set(site):
    options = {"anonymous_role": "owner", "allowed_hosts": "Heliograph.example.org,*.example.net"}
    async with site(**options) as here:
        for host, taken in [
            ("localhost", True),
            ("LOCALHOST:8000", True),
            ("localhost.", True),
            ("127.0.0.1:8000", True),
            ("192.168.1.7", True),
            ("[::1]:8000", True),
            ("[fe80::1]", True),
            (f"{HERE}:8000", True),
            (f"{FIRST}.local", True),
            (f"{FIRST.upper()}.local:8000", True),
            ("heliograph.example.org", True),
            ("a.b.example.net:80", True),
            ("attacker.example", False),
            ("attacker.example:8000", False),
            ("other.local", False),
            ("example.net", False),
            ("xexample.net", False),
            ("a.heliograph.example.org", False),
            ("localhost.attacker.example", False),
            ("127.0.0.1.attacker.example", False),
            ("2130706433", False),
            ("0x7f.1", False),
            ("[attacker.example]", False),
            ("attacker.example@localhost", False),
            ("localhost:80:80", False),
            ("", False),
        ]:
            headers = {"host": host}
            for method, path, body in [
                ("POST", "/sensors", {"sensor_name": "x"}),
                ("GET", "/sensors", None),
                ("GET", "/health", None),
                ("GET", "/docs", None),
                ("POST", "/ingest/batch", []),
            ]:
                answer = await here.http.request(method, path, json=body, headers=headers)
                refused = answer.status_code == 403 and answer.json()["code"] == "HOST_NOT_ALLOWED"
                assert refused is not taken, (host, path, answer.text)
                # A credential does not make it the server's name.
                answer = await here.http.request(method, path, json=body, headers=headers | ADMIN)
                assert (answer.status_code == 403) is not taken, (host, path)


async def test_the_name_that_it_listens_on_is_the_server_s(site):
    async with site(anonymous_role="viewer", host="Heliograph.lan") as here:
        for host, status in (("heliograph.lan:8000", 200), ("other.lan", 403)):
            assert (await here.http.get("/sensors", headers={"host": host})).status_code == status


async def test_two_host_names_have_to_be_the_server_s_both(site):
    async with site(anonymous_role="owner") as here:
        for hosts in (["localhost", "attacker.example"], ["attacker.example", "localhost"]):
            headers = [("host", host) for host in hosts]
            assert (await here.http.get("/sensors", headers=headers)).status_code == 403


async def test_names_of_hosts_are_free_without_the_role_and_without_allowed_hosts(site):
    headers = {"host": "heliograph.example.org", **ADMIN}
    async with site() as here:
        assert (await here.http.get("/sensors", headers=headers)).status_code == 200


async def test_allowed_hosts_hold_without_the_role_too(site):
    async with site(allowed_hosts="heliograph.example.org") as here:
        for host, status in (("heliograph.example.org", 200), ("attacker.example", 403)):
            answer = await here.http.get("/sensors", headers={"host": host, **ADMIN})
            assert answer.status_code == status


@pytest.mark.parametrize(
    "foreign",
    [
        {"origin": "http://attacker.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": "http://localhost"},
    ],
)
async def test_what_changes_something_is_refused_to_other_sites_pages(site, foreign):
    async with site(anonymous_role="owner") as here:
        await here.device("pump")
        account = {"username": "eve", "password": "12345678"}
        for method, path, body in [
            ("POST", "/sensors", {"sensor_name": "x"}),
            ("POST", "/ingest", {"device_id": "pump", "t": 1}),
            ("POST", "/sensors/pump/logs", {"severity": "info", "subject": "x"}),
            ("PUT", "/sensors/pump", {"name": "x"}),
            ("PATCH", "/devices/pump", {"name": "x"}),
            ("DELETE", "/devices/pump", None),
            ("POST", "/users", account),
            ("POST", "/authentication", account),
        ]:
            for headers in (foreign, foreign | SHARED):
                answer = await here.http.request(method, path, json=body, headers=headers)
                assert answer.status_code == 403, (method, path, answer.text)
            own = {"sec-fetch-site": "same-origin", "origin": "http://localhost"}
            answer = await here.http.request(method, path, json=body, headers=own)
            assert answer.status_code < 300, (method, path, answer.text)
        assert (await here.http.get("/sensors", headers=foreign)).status_code == 200


async def test_foreign_sockets_are_refused_while_the_role_is_set(site, serving):
    async with site(anonymous_role="viewer") as here, serving(here.web) as port:

        def opened(name, headers):
            return websockets.connect(
                f"ws://{name}:{port}/api/v1/realtime/all",
                additional_headers=headers,
                host="127.0.0.1",
                port=port,
            )

        for name, headers in (
            ("127.0.0.1", {"origin": "http://attacker.example"}),
            ("127.0.0.1", {"sec-fetch-site": "cross-site"}),
            ("attacker.example", {}),
            ("attacker.example", {"origin": f"http://attacker.example:{port}"}),
        ):
            for credential in ({}, ADMIN):
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    async with opened(name, headers | credential) as refused:
                        await refused.recv()
                assert closed.value.rcvd.code == 4403, headers
        async with opened("localhost", {"origin": f"http://localhost:{port}"}) as own:
            assert json.loads(await own.recv()) == {"type": "ack"}


async def test_refused_requests_are_counted_and_told_once(site, capsys):
    async with site(anonymous_role="viewer") as here:
        for number in range(3):
            await here.http.get("/sensors", headers={"host": f"attacker-{number}\x1b[31m.example"})
        await here.http.post("/users", json={}, headers={"origin": "null"})
        metrics = (await here.http.get("/metrics", headers=ADMIN)).text
        assert 'heliograph_http_refused_total{code="HOST_NOT_ALLOWED"} 3.0' in metrics
        assert 'heliograph_http_refused_total{code="FORBIDDEN"} 1.0' in metrics
    told = [line for line in capsys.readouterr().err.splitlines() if "request refused" in line]
    assert len(told) == 2
    assert "ALLOWED_HOSTS" in told[0]
    assert "attacker-0?[31m.example" in told[0]


async def test_who_owns_every_network_is_told_nothing_of_what_is_in_none(site):
    """Accounts and log-ins, with their addresses, are for administrators."""
    everywhere = {"anonymous_role": "owner", "anonymous_networks": "*", "host": "127.0.0.1"}
    async with site(**everywhere) as here:
        user = await here.user("ada")
        gone = (await here.http.post("/networks", json={"network_name": "x"}, headers=user)).json()
        await here.http.delete(f"/networks/{gone['network_identifier']}", headers=user)
        made = await here.http.post("/networks", json={"network_name": "roof"}, headers=user)
        roof = made.json()["network_identifier"]
        for headers in ({}, user):
            entries = (await here.http.get("/audit", headers=headers)).json()
            assert {entry["network_identifier"] for entry in entries} == {roof}
        everything = (await here.http.get("/audit", headers=ADMIN)).json()
        networks = {entry["network_identifier"] for entry in everything}
        assert networks == {roof, gone["network_identifier"], None}


async def test_every_network_is_for_callers_on_this_machine_alone(site, serving, monkeypatch):
    """Whatever HOST says, another server may have been told to listen everywhere."""
    everywhere = {"anonymous_role": "viewer", "anonymous_networks": "*", "host": "127.0.0.1"}
    async with site(**everywhere) as here, serving(here.web) as port:
        url = f"http://127.0.0.1:{port}/sensors"
        async with httpx.AsyncClient() as client:
            assert (await client.get(url)).status_code == 200
            # What a proxy on this machine passes on has come from elsewhere.
            for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
                passed_on = await client.get(url, headers={name: "192.0.2.1"})
                assert passed_on.status_code == 403, name
            monkeypatch.setattr(foreign_pages, "is_loopback", lambda host: host != "127.0.0.1")
            assert (await client.get(url)).status_code == 403
