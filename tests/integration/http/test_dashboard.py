"""The dashboard's page and files, and where browsers are led."""

import gzip
import os
import re
from pathlib import Path

import httpx
import pytest
from starlette.exceptions import HTTPException

from heliograph.http.csv_answers import weights
from heliograph.http.static_files import STATIC, Folder
from integration.http.conftest import ADMIN

HTML = {"accept": "text/html,application/xhtml+xml"}
SCRIPT = next((STATIC / "dashboard/assets").glob("index-*.js"))


async def test_browsers_are_led_to_the_dashboard_and_programs_to_the_documentation(site):
    async with site() as here:
        for headers, page in ((HTML, "/dashboard/"), ({}, "/docs"), ({"accept": "*/*"}, "/docs")):
            led = await here.http.get("/", headers=headers)
            assert (led.status_code, led.headers["location"]) == (307, page)
            assert led.headers["vary"] == "accept"


async def test_every_path_of_the_dashboard_is_answered_with_its_page(site):
    async with site() as here:
        first = await here.http.get("/dashboard")
        for path in ("/dashboard/", "/dashboard/networks/x/sensors/y", "/dashboard/a.b"):
            page = await here.http.get(path)
            assert (page.status_code, page.content) == (200, first.content)
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert page.headers["cache-control"] == "no-cache"
        assert '<base href="/dashboard/"' in first.text
        policy = first.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert {"script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} <= {
            part.strip() for part in policy.split(";")
        }
        known = await here.http.get("/dashboard", headers={"if-none-match": first.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        for link in re.findall(r'(?:src|href)="\./([^"]+)"', first.text):
            assert (await here.http.get(f"/dashboard/{link}")).status_code == 200
        refused = await here.http.post("/dashboard/networks", headers=ADMIN)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET")


async def test_its_files_are_sent_compressed_and_kept_for_good(site):
    path = f"/dashboard/assets/{SCRIPT.name}"
    async with site() as here:
        tags = set()
        for asked, coding, shipped in (
            ("gzip, deflate, br, zstd", "br", f"{SCRIPT}.br"),
            ("gzip, br;q=0", "gzip", f"{SCRIPT}.gz"),
            ("identity", None, str(SCRIPT)),
        ):
            headers = {"accept-encoding": asked}
            async with here.http.stream("GET", path, headers=headers) as answer:
                body = b"".join([chunk async for chunk in answer.aiter_raw()])
            assert body == Path(shipped).read_bytes()
            assert answer.headers.get("content-encoding") == coding
            assert answer.headers["content-length"] == str(len(body))
            assert answer.headers["vary"] == "accept-encoding"
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert answer.headers["content-type"].startswith("text/javascript")
            tags.add(tag := answer.headers["etag"])
            known = await here.http.get(path, headers={**headers, "if-none-match": tag})
            assert known.status_code == 304
        assert len(tags) == 3
        # A page in place of a script would be taken for one.
        gone = await here.http.get("/dashboard/assets/index-gone.js")
        assert gone.status_code == 404
        static = await here.http.get("/static/swagger-ui/swagger-ui.css")
        assert static.headers["content-encoding"] == "gzip"
        assert static.content == (STATIC / "swagger-ui/swagger-ui.css").read_bytes()
        assert gzip.decompress((STATIC / "swagger-ui/swagger-ui.css.gz").read_bytes())


async def test_the_page_knows_the_folder_in_which_a_proxy_shows_the_server(site):
    async with site(root_path="/tele") as here:
        page = await here.http.get("/dashboard/networks/x")
        assert '<base href="/tele/dashboard/"' in page.text
        assert (await here.http.get(f"/dashboard/assets/{SCRIPT.name}")).status_code == 200


async def test_the_head_of_a_file_can_be_asked_for(site, serving):
    async with site() as here, serving(here.web) as port:
        for path in ("/dashboard/", "/static/swagger-ui/swagger-ui.css"):
            whole = await here.http.get(path)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                head = await http.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["etag"] == whole.headers["etag"]


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (b"", set()),
        (b"gzip, br", {b"gzip", b"br"}),
        (b"GZIP;q=1.0, br;q=0", {b"gzip"}),
        (b"br; q=0.000,gzip;q=0.1", {b"gzip"}),
    ],
)
def test_codings_are_those_that_are_not_refused(header, taken):
    named = {name.encode() for name, weight in weights(header.decode()).items() if weight > 0}
    assert named - {b""} == taken


async def test_a_new_build_under_a_running_server_is_served_and_what_it_replaced_is_not_found(
    tmp_path,
):
    (tmp_path / "assets").mkdir()
    old, new = tmp_path / "assets/page-1.js", tmp_path / "assets/page-2.js"
    old.write_text("1")
    folder = Folder(tmp_path, b"", b"")
    assert (await folder.answer("assets/page-1.js", {})).status == 200
    # As long as the build is not complete the folder is as it was.
    seen = folder.version
    old.unlink()
    assert folder.version == seen
    with pytest.raises(HTTPException) as refused:
        await folder.answer("assets/page-1.js", {})
    assert refused.value.status_code == 404
    new.write_text("2")
    os.utime(tmp_path, ns=(seen + 1, seen + 1))
    assert (await folder.answer("assets/page-2.js", {})).status == 200
    with pytest.raises(HTTPException):
        await folder.answer("assets/page-1.js", {})
