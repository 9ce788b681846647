import pytest

from heliograph.http.front import canonical_path


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
