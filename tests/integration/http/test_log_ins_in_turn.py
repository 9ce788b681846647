"""Who logs in while others do, very often: one hash is the longest that anybody waits for them."""

import asyncio
import contextlib
import threading

import httpx
import pytest
from argon2 import PasswordHasher

from heliograph.access.windows import Limit
from heliograph.model.credentials import hash_key
from heliograph.model.time import now
from heliograph.store.accounts import SESSION
from integration.http.conftest import CHEAP_HASH, PASSWORD
from server import eventually

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

FLOOD = 80


class Hashing:
    """Lets one hash at a time begin, and notes which passwords were checked, in their order."""

    def __init__(self, passwords, monkeypatch):
        self.checked = []
        # Whatever hashes cost, they come in the same order.
        passwords._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        monkeypatch.setattr("heliograph.access.passwords._NOBODYS", CHEAP_HASH)
        self._begun, self._go = threading.Semaphore(0), threading.Semaphore(0)
        matches = passwords._matches

        def held(password_hash, password):
            self._begun.release()
            assert self._go.acquire(timeout=30)
            self.checked.append(password)
            return matches(password_hash, password)

        monkeypatch.setattr(passwords, "_matches", held)

    async def begun(self):
        """Return when a hash is under way."""
        assert await asyncio.to_thread(self._begun.acquire, timeout=30)

    def release(self, hashes=10_000):
        self._go.release(hashes)


@pytest.fixture
def hashing(monkeypatch):
    made = []

    def hashing(here):
        made.append(Hashing(here.services.passwords, monkeypatch))
        return made[-1]

    yield hashing
    for each in made:
        each.release()


@contextlib.asynccontextmanager
async def client(here, address):
    transport = httpx.ASGITransport(here.web, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


def log_in(http, username, password=PASSWORD, **options):
    body = {"username": username, "password": password}
    return asyncio.create_task(http.post("/authentication", json=body, **options))


async def arrived(here, *requests):
    """Return when all but one that have no answer wait for their turn: that one has it."""
    turns = here.services.passwords._turns
    await eventually(lambda: turns.waiting + 1 == sum(not each.done() for each in requests))


@pytest.mark.parametrize("flooded", ["eve", "ada"])
async def test_80_who_log_in_with_a_right_password_keep_nobody_else_out(site, hashing, flooded):
    """Into an account of their own, or with its name and password from elsewhere."""
    async with site() as here:
        await here.account("ada")
        await here.account("eve")
        hashes = hashing(here)
        async with client(here, "6.6.6.6") as flooding, client(here, "1.1.1.1") as other:
            flood = [log_in(flooding, flooded) for _ in range(FLOOD)]
            await hashes.begun()
            await arrived(here, *flood)
            owner = log_in(other, "ada")
            await arrived(here, *flood, owner)
            # The one that is under way, and the owner's.
            hashes.release(2)
            async with asyncio.timeout(30):
                assert (await owner).status_code == 200
            assert len(hashes.checked) == 2
            hashes.release()
            answers = await asyncio.gather(*flood)
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        refused = [answer for answer in answers if answer.status_code == 429]
        assert {answer.json()["code"] for answer in refused} == {"RATE_LIMITED"}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


async def test_a_flood_of_many_names_is_one_turn_of_its_address(site, hashing):
    async with site() as here:
        await here.account("ada")
        hashes = hashing(here)
        async with client(here, "2001:db8::1") as first, client(here, "2001:db8::2") as second:
            flood = [log_in((first, second)[n % 2], f"user {n}") for n in range(FLOOD)]
            await hashes.begun()
            await arrived(here, *flood)
            async with client(here, "2001:db8:0:1::1") as other:
                owner = log_in(other, "ada")
                await arrived(here, *flood, owner)
                hashes.release(2)
                async with asyncio.timeout(30):
                    assert (await owner).status_code == 200
            hashes.release()
            assert {answer.status_code for answer in await asyncio.gather(*flood)} == {401, 429}


async def test_sign_ups_and_new_passwords_wait_in_turn_too(site, hashing):
    async with site() as here:
        user = await here.user("ada")
        hashes = hashing(here)
        async with client(here, "6.6.6.6") as flooding, client(here, "1.1.1.1") as other:
            flood = [log_in(flooding, "eve", "wrong password") for _ in range(FLOOD)]
            await hashes.begun()
            await arrived(here, *flood)
            body = {"password": PASSWORD, "new_password": "another one"}
            change = asyncio.create_task(other.put("/users/me/password", json=body, headers=user))
            await arrived(here, *flood, change)
            signing_up = asyncio.create_task(
                other.post("/users", json={"username": "bob", "password": PASSWORD})
            )
            await arrived(here, *flood, change, signing_up)
            # The one that is under way, and the check of the old password; the new one waits again.
            hashes.release(2)
            await arrived(here, *flood, change, signing_up)
            # One of the flood's before each of the two.
            hashes.release(2)
            async with asyncio.timeout(30):
                assert (await change).status_code == 204
                assert (await signing_up).status_code == 201
            hashes.release()
            await asyncio.gather(*flood)


@pytest.mark.parametrize("trusted", [True, False])
async def test_an_address_behind_a_trusted_proxy_is_its_clients(site, hashing, serving, trusted):
    async with site() as here:
        await here.account("ada")
        hashes = hashing(here)
        options = {"proxy_headers": trusted, "forwarded_allow_ips": ["127.0.0.0/8"]}
        async with serving(here.web, **options) as port:
            url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=url, timeout=30) as proxy:
                flood = [
                    log_in(proxy, f"user {n}", "wrong", headers={"x-forwarded-for": "6.6.6.6"})
                    for n in range(6)
                ]
                await hashes.begun()
                await eventually(lambda: here.services.passwords.state.waiting == 5)
                owner = log_in(proxy, "ada", headers={"x-forwarded-for": "1.1.1.1"})
                await eventually(lambda: here.services.passwords.state.waiting == 6)
                hashes.release()
                assert (await owner).status_code == 200
                await asyncio.gather(*flood)
        assert hashes.checked.index(PASSWORD) == (1 if trusted else 6)


async def test_right_passwords_count_too(site, monkeypatch):
    monkeypatch.setattr("heliograph.access.limiter.RIGHT_OF_ACCOUNT_AND_ADDRESS", Limit("a", 5))
    async with site(rate_limit_failed_logins=1_000) as here:
        await here.account("ada")
        async with client(here, "6.6.6.6") as http, client(here, "1.1.1.1") as other:
            statuses = [(await log_in(http, "ada")).status_code for _ in range(7)]
            assert statuses == [200] * 5 + [429] * 2
            assert (await log_in(other, "ada")).status_code == 200


async def test_a_flood_of_wrong_passwords_from_everywhere_keeps_no_owner_out(site):
    """Who has logged in from his address before is not asked for what others guess elsewhere."""
    async with site(rate_limit_failed_logins=1_000) as here:
        await here.account("ada")
        async with client(here, "1.1.1.1") as own:
            assert (await log_in(own, "ada")).status_code == 200
            for at in range(11):
                async with client(here, f"6.6.6.{at}") as http:
                    for guess in range(10):
                        await log_in(http, "ada", f"guess {guess}")
            async with client(here, "7.7.7.7") as stranger:
                assert (await log_in(stranger, "ada")).status_code == 429
            assert (await log_in(own, "ada")).status_code == 200


async def test_an_account_has_at_most_100_sessions_and_the_oldest_ends(site):
    async with site() as here:
        account = await here.account("ada")
        sessions = [await here.session(account) for _ in range(100)]
        other = await here.session(await here.account("bob"))

        async def living():
            await here.services.registry.changed()
            return [
                (await here.http.get("/users/me", headers=headers)).status_code == 200
                for headers in sessions
            ]

        assert all(await living())
        newest = await log_in(here.http, "ada")
        assert newest.status_code == 200
        sessions.append({"authorization": f"Bearer {newest.json()['access_token']}"})
        assert await living() == [False] + [True] * 100
        assert (await here.http.get("/users/me", headers=other)).status_code == 200
        token = hash_key(newest.json()["access_token"])
        assert await here.services.store.accounts.find_session(token, SESSION, now())
