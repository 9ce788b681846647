"""CORS_ORIGINS and ROOT_PATH: pages of other origins, and servers in a folder of another's site."""

import asyncio

import httpx
import pytest
import websockets

from integration.http.conftest import ADMIN, PASSWORD

APP = "http://localhost:3000"
ALLOWED = {"origin": APP, "sec-fetch-site": "same-site"}
FOREIGN = {"origin": "http://evil.example", "sec-fetch-site": "cross-site"}
LOG_IN = {"username": "ada", "password": PASSWORD, "cookie": True}
PREFLIGHT = {"access-control-request-method": "PUT", "access-control-request-headers": "x-api-key"}


def cors(response):
    names = [name for name in response.headers if name.startswith("access-control-")]
    return {name.removeprefix("access-control-"): response.headers[name] for name in names}


async def test_without_the_setting_no_other_origin_reads_anything(site):
    async with site() as here:
        assert cors(await here.http.get("/ping", headers=ALLOWED)) == {}
        asked = await here.http.options("/ping", headers={**ALLOWED, **PREFLIGHT})
        assert (asked.status_code, cors(asked)) == (405, {})


async def test_pages_of_an_origin_that_is_named_work_as_our_own(site, serving):
    async with (
        site(cors_origins=APP, rate_limit_read=60) as here,
        serving(here.web) as port,
        httpx.AsyncClient(base_url=f"http://localhost:{port}") as http,
    ):
        pump = await here.device("pump")
        await here.account("ada", is_admin=True)
        asked = await http.options("/devices/pump", headers={**ALLOWED, **PREFLIGHT})
        told = cors(asked)
        assert (asked.status_code, told["allow-origin"]) == (200, APP)
        assert asked.headers["x-request-id"]
        assert told["allow-credentials"] == "true"
        assert told["allow-headers"] == "x-api-key"
        assert "PUT" in told["allow-methods"]
        # No text of the caller's comes back as a header but names.
        odd = {**PREFLIGHT, "access-control-request-headers": "x-api-key; <b>"}
        asked = await http.options("/devices/pump", headers={**ALLOWED, **odd})
        assert (asked.status_code, "allow-headers" in cors(asked)) == (200, False)
        # What is answered at once, by FastAPI, and by an error.
        for method, path, headers, expected in (
            ("POST", "/ingest", pump, 201),
            ("GET", "/sensors/pump/measurements", ADMIN, 200),
            ("GET", "/devices", ADMIN, 200),
            ("GET", "/devices", {}, 401),
            ("GET", "/nowhere", {}, 404),
        ):
            body = {"json": {"t": 1}} if method == "POST" else {}
            sent = await http.request(method, path, headers={**headers, **ALLOWED}, **body)
            assert sent.status_code == expected
            assert cors(sent)["allow-origin"] == APP
            assert sent.headers["vary"] == "Origin"
            told = {name.strip() for name in cors(sent)["expose-headers"].lower().split(",")}
            of_ours = {"etag", "link", "location", "retry-after", "ratelimit"}
            of_ours |= {name for name in sent.headers if name.startswith("x-")}
            assert told >= {*sent.headers} & of_ours - {"x-content-type-options"}
            foreign = await http.request(method, path, headers={**headers, **FOREIGN}, **body)
            assert cors(foreign) == {}
            assert foreign.headers["vary"] == "Origin"
        async with asyncio.timeout(60):
            async with http.stream("GET", "/events", headers={**ADMIN, **ALLOWED}) as stream:
                assert cors(stream)["allow-origin"] == APP
                assert await anext(stream.aiter_lines())
            # With the cookie of a log-in there, a change and a socket.
            for page, expected in ((FOREIGN, 403), (ALLOWED, 200)):
                logged_in = await http.post("/authentication", json=LOG_IN, headers=page)
                assert logged_in.status_code == expected
            assert http.cookies
            for page, expected in ((FOREIGN, 403), (ALLOWED, 201)):
                made = await http.post("/networks", json={"network_name": "n"}, headers=page)
                assert made.status_code == expected
            cookie = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
            url = f"ws://localhost:{port}/realtime/all"
            for page, expected in ((FOREIGN, 4403), (ALLOWED, None)):
                told = {"cookie": cookie, "sec-fetch-site": page["sec-fetch-site"]}
                connecting = websockets.connect(url, origin=page["origin"], additional_headers=told)
                async with connecting as socket:
                    if expected is None:
                        assert await socket.recv() == '{"type":"ack"}'
                    else:
                        with pytest.raises(websockets.ConnectionClosed) as closed:
                            await socket.recv()
                        assert closed.value.rcvd.code == expected


async def test_preflights_are_limited(site):
    async with site(cors_origins=APP, rate_limit_read=1) as here:
        asked = [
            await here.http.options("/devices", headers={**ALLOWED, **PREFLIGHT}) for _ in range(2)
        ]
        assert [answer.status_code for answer in asked] == [200, 429]
        assert [cors(answer)["allow-origin"] for answer in asked] == [APP, APP]


@pytest.mark.parametrize("is_taken_off", [True, False])
@pytest.mark.parametrize("root", ["/tele", "/api"])
async def test_a_server_in_a_folder_of_a_proxys_site(site, root, is_taken_off):
    async with site(root_path=root) as here:
        await here.account("ada")
        sent = "" if is_taken_off else root
        get = here.http.get
        assert (await get(f"{sent}/ping")).status_code == 200
        assert (await get(f"{sent}/api/v1/ping")).status_code == 200
        assert (await get(f"{sent}/")).headers["location"] == f"{root}/docs"
        assert f'href="{root}/static/' in (await get(f"{sent}/docs")).text
        document = (await get(f"{sent}/openapi.json")).json()
        assert document["servers"] == [{"url": root}]
        for name in ("a", "b"):
            await here.device(name)
        page = await get(f"{sent}/devices?limit=1", headers=ADMIN)
        assert page.headers["link"].startswith(f"<{root}/devices?")
        own = {"origin": "https://localhost"}
        for scheme, name in (("http", ""), ("https", "__Secure-")):
            url = f"{scheme}://localhost{sent}/authentication"
            own = {"origin": f"{scheme}://localhost"}
            cookie = (await here.http.post(url, json=LOG_IN, headers=own)).headers["set-cookie"]
            assert cookie.startswith(f"{name}heliograph_session=")
            assert f"; Path={root};" in cookie
