"""Every route stands once, under /api/v1; bare paths lead there too.

Pure, and what all files that have routes import: so it is a file of its own.
"""

PREFIX = "/api/v1"
# What is not part of the interface keeps its own path.
OUTSIDE = frozenset(("/", "/docs", "/redoc", "/openapi.json", "/favicon.ico"))
FOLDERS = ("/static/", "/dashboard/")


def canonical_path(path: str) -> str:
    """Return the path under which the route stands: with the prefix, without a trailing slash."""
    if len(path) > 1 and path[-1] == "/":
        path = path[:-1]
    if path.startswith("/api/v1/") or path in OUTSIDE or path.startswith(FOLDERS):
        return path
    if path in (PREFIX, "/dashboard"):
        return path
    return PREFIX + path
