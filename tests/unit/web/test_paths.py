import pytest

from heliograph.web.paths import CanonicalPaths, canonical_path


@pytest.mark.parametrize(
    ("asked", "canonical"),
    [
        ("/sensors", "/api/v1/sensors"),
        ("/sensors/", "/api/v1/sensors"),
        ("/api/v1/devices", "/api/v1/devices"),
        ("/api/v1/devices/", "/api/v1/devices"),
        ("/api/v1", "/api/v1"),
        ("/api/v1x", "/api/v1/api/v1x"),
        ("/", "/"),
        ("/docs", "/docs"),
        ("/docs/", "/docs"),
        ("/redoc", "/redoc"),
        ("/openapi.json", "/openapi.json"),
        ("/static/pages/docs.js", "/static/pages/docs.js"),
        ("/staticx", "/api/v1/staticx"),
        ("/dashboard", "/dashboard"),
        ("/dashboard/app.js", "/dashboard/app.js"),
        ("/ingest/batch/", "/api/v1/ingest/batch"),
    ],
)
def test_every_path_has_one_canonical_form(asked, canonical):
    assert canonical_path(asked) == canonical
    assert canonical_path(canonical) == canonical


async def seen(scope):
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)

    await CanonicalPaths(app)(scope, None, None)
    return scopes[0]


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_bare_paths_are_mapped_before_the_application_sees_them(kind):
    scope = {"type": kind, "path": "/realtime/all/", "headers": []}
    inner = await seen(scope)
    assert inner["path"] == "/api/v1/realtime/all"
    assert inner["asked_path"] == "/realtime/all/"
    assert scope["path"] == "/realtime/all/"


async def test_a_canonical_path_passes_untouched():
    scope = {"type": "http", "path": "/api/v1/devices"}
    assert await seen(scope) is scope


async def test_the_root_path_of_a_proxy_stays_in_front():
    inner = await seen({"type": "http", "path": "/telemetry/sensors", "root_path": "/telemetry"})
    assert inner["path"] == "/telemetry/api/v1/sensors"


async def test_the_lifespan_passes():
    assert await seen({"type": "lifespan"}) == {"type": "lifespan"}
