"""Packing as the packer does, of any range at once."""

from heliograph.store.pages import GREATEST


async def pack_range(chunks, sensor, start, end, *, before=GREATEST):
    """Make chunks of a sensor's rows from `start` to before `end`; return how many rows."""
    packed = 0
    while (prepared := await chunks.prepare(sensor, start, end, before=before)) is not None:
        await chunks.put([prepared])
        packed += len(prepared.hot)
    return packed
