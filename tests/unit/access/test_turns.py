"""Turns: who comes after whom, and that a turn is never lost nor had by two."""

import asyncio
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.access.turns import Party, Turns
from heliograph.errors import ErrorCode
from server import eventually


def turns():
    return Turns(most=100, most_of_network=50, most_of_party=25)


async def served(parties, *, leaving=()):
    """Return in which order those are served who all wait for the first to end."""
    free, order = asyncio.Event(), []
    line = turns()

    async def one(number, party):
        async with line.take(party):
            assert line._served == party
            await free.wait()
            order.append(number)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(one(*each)) for each in enumerate(parties)]
    await asyncio.sleep(0)
    for number in leaving:
        tasks[number].cancel()
    free.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert line.waiting == 0
    assert line._served is None
    return order


async def test_networks_come_in_turn_and_within_one_its_accounts():
    flood = [Party("a", name) for name in ("x", "x", "x", "y", "y", "z")]
    order = await served([*flood, Party("b", "x"), Party("c", "x"), Party("b", "x")])
    assert order == [0, 6, 7, 3, 8, 5, 1, 4, 2]


async def test_at_a_full_address_the_account_that_most_wait_as_gives_way():
    """Two accounts that fill it keep no third one out, nor does one come in at its cost."""
    line = Turns(most=100, most_of_network=8, most_of_party=4)
    names, free = ["x", *"xxxx", *"yyyy", *"zz"], asyncio.Event()
    served = []

    async def one(name):
        async with line.take(Party("a", name)):
            await free.wait()
            served.append(name)

    tasks = [asyncio.create_task(one(name)) for name in names]
    await asyncio.sleep(0)
    assert line.waiting == 8
    free.set()
    async with asyncio.timeout(10):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [name for name, result in zip(names, results, strict=True) if result is not None]
    assert {result.code for result in results if result is not None} == {ErrorCode.RATE_LIMITED}
    assert sorted(refused) == ["x", "y"]
    assert served.count("z") == 2


parties = st.builds(Party, st.sampled_from("abc"), st.sampled_from("xy"))


@settings(deadline=None)
@given(st.lists(parties, min_size=1, max_size=20), st.sets(st.integers(0, 19)))
def test_everybody_is_served_once_and_none_waits_for_two_of_another_network(waiting, leaving):
    left = {number for number in leaving if number < len(waiting)}
    order = asyncio.run(served(waiting, leaving=left))
    assert sorted(order) == [n for n in range(len(waiting)) if n not in left]
    for number in order:
        mine = waiting[number].network
        before = [waiting[n].network for n in order[: order.index(number)]]
        # Since its own network was served last, or since it came: no other network twice.
        if mine in before:
            before = before[len(before) - before[::-1].index(mine) :]
        elif before and 0 in order:
            before = before[1:]  # that one was being served when all others came
        others = [network for network in before if network != mine]
        assert len(others) == len(set(others)), (waiting, order)


async def test_a_network_of_which_more_wait_rests_and_others_do_not_wait_for_it():
    """Many log-ins from one place take a part of the time; who is alone comes at once."""
    line = Turns(
        most=100, most_of_network=50, most_of_party=25, rest=3.0, spent=time.monotonic
    )  # the loop is busy all the time
    order, spent = [], []

    async def one(name, network):
        async with line.take(Party(network, "x")):
            order.append(name)
            began = time.monotonic()
            await asyncio.sleep(0.02)
            spent.append(time.monotonic() - began)

    began = time.monotonic()
    flood = [asyncio.create_task(one(f"flood-{number}", "a")) for number in range(4)]
    await eventually(lambda: len(spent) == 2)
    # The network rests: somebody else need not, nor does he begin a rest.
    assert line._served is None
    await asyncio.create_task(one("owner", "b"))
    assert order == ["flood-0", "flood-1", "owner"]
    assert list(line._resting) == ["a"]
    async with asyncio.timeout(30):
        await asyncio.gather(*flood)
    assert time.monotonic() - began >= 4 * sum(spent[:2]) * 0.9
    assert order[3:] == ["flood-2", "flood-3"]
    assert line.waiting == 0
    # Without anybody who waits nobody rests.
    await asyncio.create_task(one("later", "c"))
    assert "c" not in line._resting


async def test_nobody_rests_where_the_server_has_nothing_else_to_do():
    line = Turns(most=100, most_of_network=50, most_of_party=25, rest=1_000.0, spent=lambda: 7.0)

    async def one():
        async with line.take(Party("a", "x")):
            await asyncio.sleep(0.001)

    async with asyncio.timeout(60):
        await asyncio.gather(*(one() for _ in range(10)))
