"""Passwords: what is a match, how long it takes, and who waits for whom."""

import asyncio
import threading

import pytest
from argon2 import PasswordHasher

from heliograph.access import limiter as limiter_module
from heliograph.access import passwords as module
from heliograph.access.limiter import Limiter
from heliograph.access.passwords import Passwords
from heliograph.access.turns import Party
from heliograph.access.windows import Limit
from heliograph.errors import ErrorCode


@pytest.fixture
async def passwords():
    passwords = Passwords()
    yield passwords
    passwords.close()


class Hasher:
    """Counts the hashes that run, and holds them back."""

    def __init__(self, inner):
        self._inner = inner
        self.running = self.most = self.count = 0
        self.threads = set()
        self.started, self.free = threading.Event(), threading.Event()
        self.free.set()

    def _run(self, work, *arguments):
        self.running += 1
        self.count += 1
        self.most = max(self.most, self.running)
        self.threads.add(threading.get_ident())
        self.started.set()
        self.free.wait(10)
        try:
            return work(*arguments)
        finally:
            self.running -= 1

    def hash(self, password):
        return self._run(self._inner.hash, password)

    def verify(self, password_hash, password):
        return self._run(self._inner.verify, password_hash, password)


@pytest.fixture
def hasher(passwords):
    passwords._hasher = Hasher(passwords._hasher)
    return passwords._hasher


async def test_a_hash_is_argon2id_as_it_is_recommended(passwords):
    first, second = await passwords.hash("12345678"), await passwords.hash("12345678")
    assert first.startswith("$argon2id$v=19$m=9216,t=4,p=1$")
    assert first != second
    assert await passwords.verify(first, "12345678")
    assert not await passwords.verify(first, "12345679")
    assert not await passwords.verify(first, "")
    assert not await passwords.verify("no hash at all", "12345678")
    longest = "\u00e9\U0001f511" * 128
    assert await passwords.verify(await passwords.hash(longest), longest)


@pytest.mark.parametrize("password", ["12345678", "", "nobody's", "\0" * 32])
async def test_who_has_no_account_has_no_password(passwords, password):
    assert not await passwords.verify(None, password)


async def test_an_unknown_account_costs_what_a_wrong_password_does(passwords, hasher):
    known = await passwords.hash("12345678")
    hasher.count = 0
    for password_hash in (None, known, None):
        before = hasher.count
        assert not await passwords.verify(password_hash, "wrong")
        assert hasher.count == before + 1
    # The work is the same one: the same memory, passes and lanes, and as long a salt and hash.
    assert [len(part) for part in module._NOBODYS.split("$")] == [
        len(part) for part in known.split("$")
    ]
    assert module._NOBODYS.split("$")[:4] == known.split("$")[:4]


async def test_one_at_a_time_and_never_on_the_event_loop(passwords, hasher):
    await asyncio.gather(*(passwords.verify(None, str(at)) for at in range(8)))
    assert (hasher.count, hasher.most) == (8, 1)
    assert threading.get_ident() not in hasher.threads


async def test_the_event_loop_goes_on_meanwhile(passwords, hasher):
    hasher.free.clear()
    waiting = asyncio.create_task(passwords.hash("12345678"))
    await asyncio.to_thread(hasher.started.wait, 10)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not waiting.done()
    hasher.free.set()
    assert await waiting


async def test_who_waits_is_bounded(hasher, passwords):
    """Of an account at an address, of an address, and of all; who has least is refused last."""
    hasher.free.clear()
    running = asyncio.create_task(passwords.hash("12345678"))
    await asyncio.to_thread(hasher.started.wait, 10)

    def begin(network, account):
        return asyncio.create_task(passwords.hash("12345678", Party(network, account)))

    waiting = [begin("1.1.1.1", "ada") for _ in range(module.MOST_WAITING_OF_ACCOUNT + 1)]
    waiting += [begin("1.1.1.1", f"{n}") for n in range(module.MOST_WAITING_OF_ADDRESS)]
    # The account gives way to others, all but one of its own.
    for _ in range(3):
        await asyncio.sleep(0)
    refused = [each for each in waiting if each.done()]
    assert len(waiting) - len(refused) == module.MOST_WAITING_OF_ADDRESS
    assert {each.exception().code for each in refused} == {ErrorCode.RATE_LIMITED}
    assert passwords.state.waiting == module.MOST_WAITING_OF_ADDRESS
    others = [begin(f"2.0.0.{n}", "ada") for n in range(module.MOST_WAITING)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert passwords.state.waiting == module.MOST_WAITING
    # Each of the other addresses has one that waits; the crowd has given way to all but the last.
    full = [each for each in others if each.done()]
    crowded_out = [each for each in waiting if each.done()]
    assert len(full) == 1
    assert len(crowded_out) == len(waiting) - 1
    assert full[0].exception().code is ErrorCode.QUEUE_FULL
    assert all(each.exception().retry_after for each in full + crowded_out)
    assert passwords.state.refused_total == {
        ErrorCode.RATE_LIMITED: len(crowded_out),
        ErrorCode.QUEUE_FULL: 1,
    }
    for each in [*waiting, *others]:
        each.cancel()
    await asyncio.gather(*waiting, *others, return_exceptions=True)
    assert passwords.state.waiting == 0
    hasher.free.set()
    assert await running
    assert await passwords.hash("12345678")


async def test_who_does_not_wait_any_more_gives_up_his_place(passwords, hasher):
    hasher.free.clear()
    waiting = [asyncio.create_task(passwords.hash("12345678")) for _ in range(3)]
    await asyncio.to_thread(hasher.started.wait, 10)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    hasher.free.set()
    assert await passwords.hash("12345678")
    assert hasher.most == 1


async def test_guesses_at_the_same_time_are_counted_one_after_the_other(passwords, hasher):
    """Else sixty that wait together would all have been allowed when they came."""
    limiter = Limiter(1_000)
    guesses = [
        passwords.verify(None, str(at), limiter.password("1.2.3.4", "ada", str(at)))
        for at in range(20)
    ]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert results.count(False) == hasher.count == 10
    assert {result.code for result in results if result} == {ErrorCode.RATE_LIMITED}


async def test_right_passwords_count_too(passwords, monkeypatch):
    monkeypatch.setattr(limiter_module, "RIGHT_OF_ACCOUNT_AND_ADDRESS", Limit("a", 15))
    monkeypatch.setattr(limiter_module, "RIGHT_OF_ADDRESS", Limit("b", 20))
    limiter = Limiter(1_000)
    passwords._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    known = await passwords.hash("12345678")

    async def rights(address, username):
        answers = await asyncio.gather(
            *(
                passwords.verify(known, "12345678", limiter.password(address, username, "12345678"))
                for _ in range(20)
            ),
            return_exceptions=True,
        )
        return [answer if answer is True else answer.code for answer in answers]

    limited = ErrorCode.RATE_LIMITED
    assert await rights("::1", "ada") == [True] * 15 + [limited] * 5
    assert await rights("::2", "bob") == [True] * 5 + [limited] * 15
    assert await rights("1.1.1.1", "ada") == [True] * 15 + [limited] * 5


async def test_a_new_password_is_hashed_while_the_one_so_far_is_compared(passwords, hasher):
    known = await passwords.hash("12345678")
    hasher.free.clear()
    limiter = Limiter(1_000)

    def replaced(given):
        guess = limiter.password("1.2.3.4", "ada", given)
        return asyncio.create_task(passwords.replace(known, given, "87654321", guess))

    right, wrong = replaced("12345678"), replaced("12345679")
    while hasher.running < 2:  # noqa: ASYNC110 - the threads tell nobody
        await asyncio.sleep(0)
    hasher.free.set()
    assert await passwords.verify(await right, "87654321")
    assert await wrong is None
    # One after the other, and each took both threads.
    assert (hasher.most, hasher.count) == (2, 6)
