"""The first administrator, made over HTTP while there is none."""

import asyncio

import pytest

from heliograph.store.accounts import Accounts
from integration.http.conftest import ADMIN_KEY, PASSWORD

OWN_PAGE = {"sec-fetch-site": "same-origin"}


def named(username, code):
    return {"username": username, "password": PASSWORD, "code": code}


async def test_the_first_start_makes_one_administrator(site):
    async with site() as here:
        before = (await here.http.get("/session")).json()
        assert before == {"account": None, "has_administrator": False, "signup_is_open": True}
        # Somebody who has signed up is none.
        await here.account("ada")
        wrong = await here.http.post("/setup", json=named("eve", "aaaa-aaaa-aaaa"))
        assert (wrong.status_code, wrong.json()["code"]) == (401, "INVALID_CREDENTIALS")
        code = here.services.authenticator.setup_code
        body = {**named("root", f" {code.upper().replace('-', ' ')} "), "cookie": True}
        other_site = {"sec-fetch-site": "cross-site"}
        refused = await here.http.post("/setup", json=body, headers=other_site)
        assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
        made = await here.http.post("/setup", json=body, headers=OWN_PAGE)
        assert made.status_code == 201
        assert "HttpOnly" in made.headers["set-cookie"]
        session = (await here.http.get("/session")).json()
        assert session["has_administrator"]
        assert (session["account"]["username"], session["account"]["is_admin"]) == ("root", True)
        # Closed for good: also when nobody may use the account any more.
        identifier = made.json()["user_identifier"]
        await here.services.store.accounts.activate(identifier, is_active=False)
        await here.services.registry.changed()
        for given in (code, ADMIN_KEY, "aaaa-aaaa-aaaa"):
            closed = await here.http.post("/setup", json=named("eve", given))
            assert (closed.status_code, closed.json()["code"]) == (409, "ALREADY_SET_UP")
        gone = (await here.http.get("/session")).json()
        assert (gone["account"], gone["has_administrator"]) == (None, True)


async def test_of_two_who_come_at_once_one_is_the_administrator(site, monkeypatch):
    """Both have been told that there is none."""

    async def none(_accounts):
        return False

    monkeypatch.setattr(Accounts, "has_administrator", none)
    async with site() as here:
        answers = await asyncio.gather(
            *(here.http.post("/setup", json=named(name, ADMIN_KEY)) for name in ("ada", "bob"))
        )
        assert sorted(answer.status_code for answer in answers) == [201, 409]
        accounts = await here.services.store.accounts.list()
        assert [account.is_admin for account in accounts] == [True]


@pytest.mark.parametrize("attempts", [3])
async def test_codes_are_not_guessed_quickly(site, attempts):
    async with site(rate_limit_failed_logins=attempts) as here:
        guesses = [f"guess-number-{number}" for number in range(attempts + 1)]
        answers = [
            (await here.http.post("/setup", json=named("eve", guess))).status_code
            for guess in guesses
        ]
        assert answers == [*[401] * attempts, 429]


async def test_a_session_that_has_ended_is_nobodys(site):
    async with site() as here:
        cookie = {"cookie": f"heliograph_session={'0' * 64}"}
        answer = await here.http.get("/session", headers=cookie)
        assert (answer.status_code, answer.json()["account"]) == (200, None)
