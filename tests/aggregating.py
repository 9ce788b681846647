"""Aggregates and rollups of a store, as the server reads them."""

from heliograph.rollups.aggregates import Aggregates
from heliograph.rollups.task import Rolling


def aggregates_of(store):
    return Aggregates(store.engine, store.raw_reads, store.chunks)


async def pending(store):
    """Return what is left to be rolled up."""
    return await Rolling(store, None).pending()
