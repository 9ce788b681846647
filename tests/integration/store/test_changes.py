"""What is done in one transaction, on both engines: whole, or not at all."""

import asyncio

import pytest

from heliograph.errors import AlreadyExistsError, RowError


class OwnError(Exception):
    """What somebody's work raises."""


def make(name):
    """Return work that makes a network and returns its name as it is stored."""

    async def work(transaction):
        rows = await transaction.fetch(
            "network_create", identifier=f"{name:0>36}", name=name, created_at=1
        )
        return rows[0][1]

    return work


async def names(store):
    found, _ = await store.networks.list(networks=None, offset=0, limit=10)
    return {network.name for network in found} - {"default"}


async def test_work_is_committed_and_returns_what_it_returns(store):
    assert await store.engine.change(make("a")) == "a"
    assert await names(store) == {"a"}


async def test_what_work_raises_undoes_all_of_it_and_the_next_goes_on(store):
    async def raising(transaction):
        await make("a")(transaction)
        raise OwnError

    with pytest.raises(OwnError):
        await store.engine.change(raising)
    assert await names(store) == set()
    await store.engine.change(make("b"))
    assert await names(store) == {"b"}


async def test_what_the_database_refuses_undoes_all_of_it(store):
    async def twice(transaction):
        await make("a")(transaction)
        await transaction.fetch("network_create", identifier="b" * 36, name="a", created_at=1)

    with pytest.raises(AlreadyExistsError) as refused:
        await store.engine.change(twice)
    assert refused.value.field == "name"
    with pytest.raises(RowError):
        await store.engine.change(
            lambda transaction: transaction.fetch(
                "network_create", identifier="b" * 36, name="\ud800", created_at=1
            )
        )
    assert await names(store) == set()


async def test_many_at_once_come_one_after_the_other(store):
    async def count(transaction):
        rows = await transaction.fetch("sensors_of_network", network="", offset=0, limit=1)
        await make(str(len(made)))(transaction)
        made.append(rows[0][1])

    made = []
    await asyncio.gather(*(store.engine.change(count) for _ in range(5)))
    assert await names(store) == set("01234")


async def test_steps_of_an_open_transaction_are_part_of_it(store):
    async def broken_off():
        async with store.engine.transaction() as transaction:
            assert await transaction.run(make("a")) == "a"
            assert await transaction.run(lambda inner: inner.run(make("b"))) == "b"
            raise OwnError

    with pytest.raises(OwnError):
        await broken_off()
    assert await names(store) == set()
    async with store.engine.transaction() as transaction:
        await transaction.fetch("registry_lock")
        await transaction.run(make("c"))
    assert await names(store) == {"c"}
