"""Packets: what a device says of itself at once, sent on to whoever subscribes to it."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from heliograph.access.registry import KnownSensor
from heliograph.errors import ErrorCode
from heliograph.http.access import Access
from heliograph.http.answers import Answer, encode
from heliograph.http.bodies import SINGLE_LIMIT, Receiving
from heliograph.http.errors import invalid, rejection
from heliograph.http.ingest import Call, IngestRoute, Refusals, SenderRefusedError
from heliograph.http.paths import PREFIX
from heliograph.http.records import Representation
from heliograph.http.resources import probe
from heliograph.http.services import Services
from heliograph.ingest.http_ingest import HttpIngest
from heliograph.ingest.packets import SCHEMA, InvalidPacketError, read_packet
from heliograph.ingest.strict_json import Rejected
from heliograph.model.actions import PUBLISH
from heliograph.model.principal import Principal
from heliograph.processing.dispatcher import Dispatcher
from heliograph.store.actions import Actions, ActionState

router = APIRouter(prefix=PREFIX, tags=["packets"], dependencies=[probe])

# How long an answer waits for the publication: the packet is stored, and goes out later if not now.
PUBLISHED_SECONDS = 1.0
_SCHEMA = msgspec.json.encode(SCHEMA)


class StoredPacket(Representation):
    """A packet that is committed; a repeat has the id of the first."""

    id: Annotated[str, "What the server calls the packet"]
    published: Annotated[
        bool,
        "Whether it was published on MQTT_PUBLISH_TOPIC; if not it will be, as soon as the broker"
        " takes it",
    ]


class PostPacket(IngestRoute):
    """`POST /packets`: validated by the schema, stored, and published at once."""

    template = f"{PREFIX}/packets"
    limit = SINGLE_LIMIT

    def __init__(
        self,
        access: Access,
        http_ingest: HttpIngest,
        receiving: Receiving,
        refusals: Refusals,
        *,
        actions: Actions,
        publishing: Dispatcher,
    ) -> None:
        super().__init__(access, http_ingest, receiving, refusals)
        self._actions = actions
        self._publishing = publishing

    async def take(self, call: Call) -> Answer:
        """Store the packet; answer with its id, and whether it is published by now."""
        principal, payload, key, source, _ = call
        try:
            packet = read_packet(payload, self.http_ingest.clock.now())
        except Rejected as rejected:
            await self.http_ingest.reject(payload, rejected.fault, principal, source)
            return rejection(rejected.fault, invalid=400)
        except InvalidPacketError as error:
            await self.http_ingest.reject(payload, error.fault, principal, source)
            problems = [
                {"loc": ("body", *fault.path), "type": fault.type, "msg": fault.message}
                for fault in error.faults
            ]
            return invalid(problems, status=400)
        sensor = await self._device(principal, packet.device_id)
        stored = await self.http_ingest.post_packet(packet, sensor, payload, principal, source, key)
        published = await self._is_published(stored.id, wait=not stored.is_repeat)
        return Answer(201, encode(StoredPacket(str(stored.id), published)))

    async def _device(self, principal: Principal, device_id: str) -> KnownSensor | None:
        """Return the device as which the caller sends; the administrator may name any.

        Raises:
            HeliographError: there is none as which they may send.
        """
        try:
            return await self.sensor(principal, device_id)
        except SenderRefusedError as refused:
            if principal.is_admin and refused.code is ErrorCode.DEVICE_NOT_FOUND:
                return None
            raise

    async def _is_published(self, message: int, *, wait: bool) -> bool:
        ways = self.http_ingest.packets.ways
        if wait and await self._publishing.finished(message, PUBLISH, ways, PUBLISHED_SECONDS):
            return True
        actions = await self._actions.of_message(message, PUBLISH)
        return bool(actions) and all(action.state == ActionState.DONE for action in actions)


_DESCRIBED = {"content": {"application/schema+json": {"schema": {"type": "object"}}}}


@router.get("/packets/schema", responses={200: _DESCRIBED}, response_class=Response)
async def packet_schema() -> Any:
    """Read the JSON Schema of packets; its `$id` ends with its version."""
    return Response(_SCHEMA, media_type="application/schema+json")


def post_route(services: Services) -> PostPacket:
    """Return the route that takes packets."""
    return PostPacket(
        services.access,
        services.http_ingest,
        Receiving(),
        Refusals(),
        actions=services.store.actions,
        publishing=services.publishing,
    )
