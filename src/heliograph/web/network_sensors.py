"""A network's sensors stand under the network too: each route of a sensor, in that network."""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from heliograph.access.registry import Registry
from heliograph.web.paths import PREFIX

NETWORKS = f"{PREFIX}/networks/"
_ALIAS = re.compile(rf"{NETWORKS}([^/]+)/sensors/([^/]+)(/.+)?")
# Neither a UUID nor a `device_id`: it answers as any other sensor that is not there.
_NOBODY = "~"


class NetworkSensors:
    """ASGI layer that leads /networks/{id}/sensors/{id}/… to /sensors/{id}/….

    A sensor of another network is led to nobody, so that who may see what is still decided in one
    place, and both answer alike.
    """

    def __init__(self, app: ASGIApp, registry: Registry) -> None:
        self._app = app
        self._registry = registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, an alias under the path that it stands for."""
        if scope["type"] == "http":
            path, root = scope["path"], scope.get("root_path", "")
            bare = path.removeprefix(root)
            if bare.startswith(NETWORKS) and (alias := _ALIAS.fullmatch(bare)):
                asked = scope.get("asked_path", path)
                bare = await self._sensor(*alias.groups(default=""))
                scope = dict(scope, path=root + bare, asked_path=asked)
        await self._app(scope, receive, send)

    async def _sensor(self, network: str, identifier: str, rest: str) -> str:
        sensor = await self._registry.find(identifier)
        if sensor is None or sensor.network_identifier != network.lower():
            identifier = _NOBODY
        return f"{PREFIX}/sensors/{identifier}{rest}"
