"""How much of what was measured is packed."""

from typing import Annotated

from heliograph.errors import ErrorCode
from heliograph.http.records import Representation
from heliograph.http.resources import KnownCall, Resource, TheCall, found
from heliograph.http.schemas import OfNetwork
from heliograph.model.time import to_rfc3339
from heliograph.store.chunks import PackedTotals

router = Resource("retention")


class PackedRepresentation(Representation):
    """What is packed, and whether more will be."""

    packing: Annotated[
        bool,
        "Whether what gets old is packed: the server does it, and the network and the sensor that"
        " were asked for let it",
    ]
    rows: Annotated[int, "Number of measurements that are packed"]
    chunks: Annotated[int, "Number of chunks that they are in"]
    bytes: Annotated[int, "Bytes that their chunks take, without what indexes take"]
    first: Annotated[
        str | None, "The time of the oldest one (RFC 3339, UTC); null: nothing is packed"
    ]
    last: Annotated[
        str | None,
        "The time of the newest one (RFC 3339, UTC): what is older may be packed or not",
    ]


@router.route("/packed", "GET")
async def read_packed(call: TheCall, network_identifier: OfNetwork = None) -> PackedRepresentation:
    """Read how much is packed of a network, or of all that the caller may see."""
    visible = await call.visible(network_identifier)
    allowed = network_identifier is None or (await call.network(network_identifier)).packing
    return await _shown(call, await call.store.chunks.totals(networks=visible), allowed=allowed)


@router.route("/sensors/{identifier}/packed", "GET")
async def read_packed_of_sensor(identifier: str, call: TheCall) -> PackedRepresentation:
    """Read how much is packed of a sensor."""
    number = (await call.readable(identifier)).number
    sensor = found(await call.store.sensors.find_number(number), ErrorCode.SENSOR_NOT_FOUND)
    network = await call.store.networks.find(sensor.network_identifier)
    allowed = sensor.packing and network is not None and network.packing
    return await _shown(call, await call.store.chunks.totals_of(number), allowed=allowed)


async def _shown(call: KnownCall, totals: PackedTotals, *, allowed: bool) -> PackedRepresentation:
    return PackedRepresentation(
        packing=allowed and await call.services.packer.packs(),
        rows=totals.rows,
        chunks=totals.chunks,
        bytes=totals.bytes,
        first=None if totals.first is None else to_rfc3339(totals.first),
        last=None if totals.last is None else to_rfc3339(totals.last),
    )
