"""Passwords: what is a match, how long it takes, and who waits for whom."""

import asyncio
import threading

import pytest

from heliograph import passwords as module
from heliograph.attempts import Attempts
from heliograph.errors import ErrorCode, HeliographError
from heliograph.passwords import Passwords


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
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
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


async def test_who_waits_is_bounded(passwords, hasher, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    hasher.free.clear()
    waiting = [asyncio.create_task(passwords.hash("12345678")) for _ in range(3)]
    await asyncio.sleep(0)
    for call in (passwords.hash("12345678"), passwords.verify(None, "12345678")):
        with pytest.raises(HeliographError) as raised:
            await call
        assert raised.value.code is ErrorCode.QUEUE_FULL
        assert raised.value.retry_after
    hasher.free.set()
    assert all(await asyncio.gather(*waiting))
    assert await passwords.hash("12345678")


async def test_who_does_not_wait_any_more_gives_up_his_place(passwords, hasher, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    hasher.free.clear()
    waiting = [asyncio.create_task(passwords.hash("12345678")) for _ in range(2)]
    await asyncio.to_thread(hasher.started.wait, 10)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    hasher.free.set()
    assert await passwords.hash("12345678")
    assert hasher.most == 1


def refused(guess):
    try:
        guess.check()
    except HeliographError as error:
        return error.code is ErrorCode.RATE_LIMITED and error.retry_after >= 1
    return False


async def test_guesses_at_the_same_time_are_counted_one_after_the_other(passwords, hasher):
    """Else sixty that wait together would all have been allowed when they came."""
    attempts = Attempts(1_000)
    guesses = [
        passwords.verify(None, str(at), attempts.of("1.2.3.4", "ada", str(at))) for at in range(20)
    ]
    results = await asyncio.gather(*guesses, return_exceptions=True)
    assert results.count(False) == hasher.count == 10
    assert {result.code for result in results if result} == {ErrorCode.RATE_LIMITED}


async def test_right_passwords_count_for_nothing(passwords):
    attempts = Attempts(1_000)
    known = await passwords.hash("12345678")
    rights = [
        passwords.verify(known, "12345678", attempts.of("::1", "ada", "12345678"))
        for _ in range(15)
    ]
    assert all(await asyncio.gather(*rights))


def wrong(attempts, address, username, password):
    """Give a wrong password; tell whether that was refused unread."""
    attempt = attempts.of(address, username, password)
    if refused(attempt):
        return True
    attempt.failed()
    return False


def test_wrong_passwords_are_counted_by_account_and_by_address():
    attempts = Attempts(30)

    def ten(address, username):
        return [wrong(attempts, address, username, f"{number}") for number in range(10)]

    assert not any(ten("1.1.1.1", "ada"))
    assert wrong(attempts, "1.1.1.1", "ada", "x")
    # Neither the others of the address nor the account's owner elsewhere are kept out.
    assert not any(ten("1.1.1.1", "bob") + ten("1.1.1.1", "eve"))
    assert wrong(attempts, "1.1.1.1", "dan", "x")
    assert not wrong(attempts, "1.1.1.2", "dan", "x")
    # Until very many addresses guess at one account.
    assert not any(any(ten(f"2001:db8:0:{number}::1", "ada")) for number in range(9))
    assert wrong(attempts, "9.9.9.9", "ada", "x")
    assert not wrong(attempts, "9.9.9.9", "Ada", "x")


def test_the_same_wrong_password_again_is_no_new_guess_of_the_address():
    attempts = Attempts(3)
    assert not any(wrong(attempts, "1.1.1.1", "device", "old") for _ in range(10))
    # Of the account it is: it cost a hash each time.
    assert wrong(attempts, "1.1.1.1", "device", "old")
    guesses = [wrong(attempts, "1.1.1.1", "ada", f"{number}") for number in range(4)]
    assert guesses == [False, False, True, True]


def test_zero_is_no_limit():
    attempts = Attempts(0)
    assert not any(wrong(attempts, "1.1.1.1", "ada", f"{number}") for number in range(200))
