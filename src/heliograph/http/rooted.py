"""ROOT_PATH: the folder of a proxy's site in which this server is shown.

A layer of its own, since it is there only where ROOT_PATH is set: so it is a file of its own too.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from heliograph.http.paths import PREFIX


class Rooted:
    """ASGI layer that knows of the folder, whether or not the proxy takes it off the path."""

    def __init__(self, app: ASGIApp, root: str) -> None:
        self._app = app
        self._root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with the path that its client has asked for."""
        if scope["type"] in ("http", "websocket"):
            root, path = self._root, scope["path"]
            has_root = is_below(root, path)
            raw = scope.get("raw_path") or path.encode()
            scope = {
                **scope,
                "root_path": root,
                "path": path if has_root else root + path,
                "raw_path": raw if has_root else root.encode() + raw,
            }
        await self._app(scope, receive, send)


def is_below(root: str, path: str) -> bool:
    """Return whether a path still has the folder in front; /api may be its name, too."""
    if path.startswith(f"{root}{PREFIX}/"):
        return True
    return not path.startswith(f"{PREFIX}/") and (path == root or path.startswith(f"{root}/"))
