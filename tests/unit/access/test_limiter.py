"""Who guesses, at what and from where, and how often."""

import secrets

import pytest

from heliograph.access import limiter as limiter_module
from heliograph.access.limiter import Limiter
from heliograph.errors import ErrorCode, HeliographError
from heliograph.model.credentials import new_api_key, new_token


async def refused(call, *arguments):
    try:
        await call(*arguments)
    except HeliographError as error:
        return error.code is ErrorCode.RATE_LIMITED and error.retry_after >= 1
    return False


async def wrong_key(limiter, address, key, username=""):
    """Give a wrong key; return whether it was one too many."""
    return await refused(limiter.wrong_key, address, key, username)


async def wrong(limiter, address, username, password):
    """Give a wrong password; tell whether that was refused unread."""
    attempt = limiter.password(address, username, password)
    if await refused(attempt.check):
        return True
    await attempt.failed()
    return False


async def test_wrong_passwords_are_counted_by_account_and_by_address():
    limiter = Limiter(30)

    async def ten(address, username):
        return [await wrong(limiter, address, username, f"{number}") for number in range(10)]

    assert not any(await ten("1.1.1.1", "ada"))
    assert await wrong(limiter, "1.1.1.1", "ada", "x")
    # Neither the others of the address nor the account's owner elsewhere are kept out.
    assert not any(await ten("1.1.1.1", "bob") + await ten("1.1.1.1", "eve"))
    assert await wrong(limiter, "1.1.1.1", "dan", "x")
    assert not await wrong(limiter, "1.1.1.2", "dan", "x")
    # Until very many addresses guess at one account.
    assert not any([any(await ten(f"2001:db8:0:{number}::1", "ada")) for number in range(9)])
    assert await wrong(limiter, "9.9.9.9", "ada", "x")
    assert not await wrong(limiter, "9.9.9.9", "Ada", "x")


async def test_what_others_guess_counts_not_where_the_user_has_logged_in(monkeypatch):
    monkeypatch.setattr(limiter_module, "MOST_KNOWN", 2)
    limiter = Limiter(1_000)
    for own in ("1.1.1.1", "2001:db8::1", "2.2.2.2"):
        await limiter.password(own, "ada", "12345678").succeeded()
    for number in range(100):
        assert not await wrong(limiter, f"9.9.9.{number // 10}", "ada", f"{number}")
    kept_out = ["1.1.1.1", "2001:db8:0:1::1", "3.3.3.3"]
    for address in kept_out:
        assert await refused(limiter.password(address, "ada", "12345678").check), address
    for address in ("2.2.2.2", "2001:db8::2"):
        assert not await refused(limiter.password(address, "ada", "12345678").check)
    # Ten wrong ones from there are ten wrong ones.
    assert not any([await wrong(limiter, "2.2.2.2", "ada", f"{n}") for n in range(10)])
    assert await wrong(limiter, "2.2.2.2", "ada", "x")


async def test_the_same_wrong_password_again_is_no_new_guess_of_the_address():
    limiter = Limiter(3)
    assert not any([await wrong(limiter, "1.1.1.1", "device", "old") for _ in range(10)])
    # Of the account it is: it cost a hash each time.
    assert await wrong(limiter, "1.1.1.1", "device", "old")
    guesses = [await wrong(limiter, "1.1.1.1", "ada", f"{number}") for number in range(4)]
    assert guesses == [False, False, True, True]


async def test_zero_is_no_limit():
    limiter = Limiter(0)
    assert not any([await wrong_key(limiter, "1.1.1.1", b"%d" % number) for number in range(200)])
    assert not any([await wrong(limiter, "1.1.1.1", "ada", f"{number}") for number in range(200)])


async def test_the_same_wrong_key_again_is_no_new_guess():
    limiter = Limiter(3)
    assert not any([await wrong_key(limiter, "1.2.3.4", b"stale") for _ in range(50)])
    guesses = [await wrong_key(limiter, "1.2.3.4", b"%d" % guess) for guess in range(5)]
    assert guesses == [False, False, True, True, True]
    assert not await wrong_key(limiter, "1.2.3.5", b"0")


async def test_wrong_keys_count_by_network():
    limiter = Limiter(2)
    assert not await wrong_key(limiter, "2001:db8::1", b"1", "a")
    assert not await wrong_key(limiter, "2001:db8::2", b"1", "b")
    assert await wrong_key(limiter, "2001:db8::3", b"1", "c")
    assert not await wrong_key(limiter, "2001:db8:0:1::1", b"1", "c")
    assert not await wrong_key(limiter, "192.0.2.1", b"1", "c")


async def test_a_guesser_has_one_budget_for_keys_and_passwords():
    limiter = Limiter(4)
    assert not any([await wrong_key(limiter, "1.1.1.1", b"%d" % number) for number in range(2)])
    assert not any([await wrong(limiter, "1.1.1.1", "ada", f"{number}") for number in range(2)])
    assert await wrong(limiter, "1.1.1.1", "ada", "x")
    assert await wrong(limiter, "1.1.1.1", "bob", "x")
    assert await wrong_key(limiter, "1.1.1.1", b"x")
    assert not await wrong_key(limiter, "1.1.1.2", b"x")


@pytest.mark.parametrize(
    "stale",
    [new_api_key, new_token, lambda: f"{new_token()}.{new_token()}"],
    ids=["device key", "session", "ticket"],
)
async def test_stale_keys_and_tokens_keep_nobody_from_logging_in(stale):
    limiter = Limiter(3)
    answers = [await wrong_key(limiter, "1.1.1.1", stale().encode()) for _ in range(5)]
    assert answers == [False] * 3 + [True] * 2
    assert not await wrong(limiter, "1.1.1.1", "ada", "guess")
    # What is shorter may be guessed.
    short = [await wrong_key(limiter, "1.1.1.1", secrets.token_hex(8).encode()) for _ in range(3)]
    assert short == [False, False, True]


async def test_accounts_are_made_so_often_by_network():
    limiter = Limiter(2)
    made = [await refused(limiter.sign_up, f"2001:db8::{number}") for number in range(3)]
    assert made == [False, False, True]
    assert not await refused(limiter.sign_up, "192.0.2.1")
    assert not any([await refused(Limiter(0).sign_up, "192.0.2.1") for _ in range(9)])


async def test_who_logs_in_is_told_the_share_of_this_server():
    limiter = Limiter(30)
    limiter.windows.servers = 4
    await wrong_key(limiter, "1.1.1.1", b"a")
    assert await limiter.told("1.1.1.1") == (
        b'ratelimit-policy: "log-in";q=8;w=60\r\nratelimit: "log-in";r=7;t=60\r\n'
    )
