"""Accounts: signing up, logging in and out, passwords, cookies and tickets."""

import asyncio
import itertools
import re
import threading
import uuid
from unittest import mock

import pytest
from argon2 import PasswordHasher
from pydantic import SecretStr

from heliograph import server
from heliograph.errors import ErrorCode, HeliographError
from heliograph.http import access as access_module
from heliograph.http import accounts as accounts_module
from heliograph.model.credentials import hash_key
from heliograph.model.time import DAY, MINUTE, now, parse
from heliograph.store.accounts import SESSION, TICKET
from integration.http.conftest import ADMIN, CHEAP_HASH, PASSWORD, SHARED

ADA = {"username": "ada", "password": PASSWORD}
OWN_PAGE = {"sec-fetch-site": "same-origin"}
TOKEN = re.compile(r"[0-9a-f]{64}")


def bearer(token):
    return {"authorization": f"Bearer {token}"}


async def status(here, headers, path="/users/me"):
    return (await here.http.get(path, headers=headers)).status_code


async def test_sign_up_log_in_and_out(site):
    async with site() as here:
        created = await here.http.post("/users", json=ADA)
        assert created.status_code == 201
        assert set(created.json()) == {"access_token", "user_identifier"}
        assert TOKEN.fullmatch(created.json()["access_token"])
        again = await here.http.post("/authentication", json=ADA)
        assert again.status_code == 200
        assert again.json()["user_identifier"] == created.json()["user_identifier"]
        first, second = (bearer(each.json()["access_token"]) for each in (created, again))
        assert first != second
        for headers in (first, second):
            me = await here.http.get("/users/me", headers=headers)
            assert me.json() | {"created_at": ""} == {
                "user_identifier": created.json()["user_identifier"],
                "username": "ada",
                "is_admin": False,
                "created_at": "",
            }
            assert abs(parse(me.json()["created_at"]) - now()) < MINUTE
        ended = await here.http.delete("/authentication", headers=first)
        assert (ended.status_code, ended.content) == (204, b"")
        assert [await status(here, headers) for headers in (first, second)] == [401, 200]
        gone = await here.http.delete("/authentication", headers=first)
        assert (gone.status_code, gone.json()["code"]) == (401, "INVALID_TOKEN")
        assert 'error="invalid_token"' in gone.headers["www-authenticate"]


async def test_user_name_is_taken_for_username(site):
    async with site() as here:
        body = {"user_name": "ada", "password": PASSWORD}
        assert (await here.http.post("/users", json=body)).status_code == 201
        assert (await here.http.post("/authentication", json=body)).status_code == 200
        assert (await here.http.post("/authentication", json=ADA)).status_code == 200


async def test_what_is_no_name_or_password(site):
    async with site() as here:
        for change in [
            {"username": ""},
            {"username": "x" * 65},
            {"username": " ada"},
            {"username": "ada\n"},
            {"username": "a/b"},
            {"username": ".."},
            {"username": "a\0"},
            {"username": "\ud800"},
            {"username": None},
            {"username": 5},
            {"password": "1234567"},
            {"password": "x" * 257},
            {"password": "12345678\0"},
            {"password": "12345678\ud800"},
            {"password": None},
        ]:
            body = {**ADA, **change}
            content = (
                str(body).replace("'", '"').replace("None", "null").replace("\\x00", "\\u0000")
            )
            response = await here.http.post("/users", content=content)
            assert (response.status_code, response.json()["code"]) == (422, "VALIDATION_FAILED"), (
                change
            )
            response = await here.http.post("/authentication", content=content)
            assert response.status_code in (401, 422), change


async def test_a_name_belongs_to_one_account(site):
    async with site() as here:
        await here.account("ada")
        taken = await here.http.post("/users", json=ADA)
        assert (taken.status_code, taken.json()["code"]) == (409, "USERNAME_ALREADY_REGISTERED")
        other = await here.http.post("/users", json={**ADA, "username": "adan"})
        assert other.status_code == 201


async def test_names_that_look_like_anothers_are_refused_at_sign_up(site):
    async with site() as here:
        for name, others in {
            "Alice": ("alice", "ALICE", "\u0430lice", "\u0410LICE", "alice\ufe0f", "\uff41lice"),
            "Ivan": ("lvan",),
            "mary": ("rnary",),
            "\u00e5sa": ("a\u030asa",),
        }.items():
            made = await here.http.post("/users", json={**ADA, "username": name})
            assert made.status_code == 201, name
            for other in others:
                body = {**ADA, "username": other}
                for headers in ({}, ADMIN):
                    refused = await here.http.post("/users", json=body, headers=headers)
                    told = refused.status_code, refused.json()["code"]
                    assert told == (409, "USERNAME_CONFUSABLE"), other
                # Log-in stays exact.
                unknown = await here.http.post("/authentication", json=body)
                assert unknown.status_code == 401, other
            known = await here.http.post("/authentication", json={**ADA, "username": name})
            assert known.status_code == 200, name


async def test_of_two_who_sign_up_alike_at_the_same_time_one_does(site):
    async with site() as here:
        names = ["alice", "Alice", "ALICE", "\u0430lice"]
        answers = await asyncio.gather(
            *(here.http.post("/users", json={**ADA, "username": name}) for name in names)
        )
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_accounts_that_look_alike_already_keep_working_and_are_told_of(site, monkeypatch):
    async with site() as here:
        accounts = here.services.store.accounts
        for number, name in enumerate(("alice", "Alice", "bob")):
            await accounts.create(
                identifier=str(uuid.uuid4()),
                username=name,
                password_hash=CHEAP_HASH,
                created_at=number,
                may_look_alike=True,
            )
        # As in a database from before names were compared.
        async with here.services.store.engine.transaction() as transaction:
            await transaction.fetch("looks_forget")
        url = here.services.settings.database_url
    log = mock.Mock()
    monkeypatch.setattr("heliograph.server.log", log)
    async with site(database_url=url) as here:
        log.warning.assert_called_once_with(
            "confusable user names: see heliograph user alike", accounts=1
        )
        for name in ("alice", "Alice", "bob"):
            known = await here.http.post("/authentication", json={**ADA, "username": name})
            assert known.status_code == 200
        for name in ("ALICE", "Bob"):
            refused = await here.http.post("/users", json={**ADA, "username": name})
            assert refused.json()["code"] == "USERNAME_CONFUSABLE"


async def test_the_name_of_admin_username_is_reserved_once_it_is_set(site):
    """Though somebody has signed up before under a name that looks like it."""
    settings = {"admin_username": "Keeper", "admin_password": "correct horse"}
    async with site() as here:
        body = {"username": "keeper", "password": PASSWORD}
        assert (await here.http.post("/users", json=body)).status_code == 201
        url = here.services.settings.database_url
    async with site(database_url=url, **settings) as here:
        body = {"username": "Keeper", "password": "correct horse"}
        logged_in = await here.http.post("/authentication", json=body)
        assert logged_in.status_code == 200
        me = await here.http.get("/users/me", headers=bearer(logged_in.json()["access_token"]))
        assert me.json()["is_admin"] is True
        for name in ("KEEPER", "K\u0435eper", "\u212aeeper"):
            refused = await here.http.post("/users", json={**ADA, "username": name})
            assert (refused.status_code, refused.json()["code"]) == (409, "USERNAME_CONFUSABLE")


def in_production(here):
    """Have the routes go by the rules of production."""
    update = {"app_env": "production", "allow_signup": True}
    running = here.services.running_settings
    running.current = running.current.model_copy(update=update)


@pytest.mark.parametrize("password", ["12345678", "Password1", "ada lovelace", "heliograph"])
async def test_in_production_the_commonest_passwords_are_refused(site, password):
    async with site() as here:
        user = await here.user("bob")
        in_production(here)
        body = {"username": "Ada Lovelace", "password": password}
        refused = await here.http.post("/users", json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "VALIDATION_FAILED")
        assert refused.json()["detail"][0]["loc"] == ["body", "password"]
        if password != "ada lovelace":
            change = {"password": "the one before", "new_password": password}
            refused = await here.http.put("/users/me/password", json=change, headers=user)
            assert refused.status_code == 422
            assert refused.json()["detail"][0]["loc"] == ["body", "new_password"]
        # Whatever was a password stays one.
        assert (await here.http.post("/authentication", json={**ADA, "username": "bob"})).is_success


async def test_in_production_nobody_signs_up_as_admin(site):
    async with site() as here:
        in_production(here)
        names = ("admin", "Admin", "root", "administrator")
        for name, headers in itertools.product(names, ({}, ADMIN)):
            body = {"username": name, "password": "correct horse"}
            refused = await here.http.post("/users", json=body, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (422, "VALIDATION_FAILED")
            assert refused.json()["detail"][0]["loc"] == ["body", "username"]


async def test_in_development_admin_and_12345678_hold_as_printed_with_a_warning(site, monkeypatch):
    async with site(app_env="development") as here:
        body = {"username": "admin", "password": "12345678"}
        log = mock.Mock()
        monkeypatch.setattr("heliograph.http.accounts.log", log)
        assert (await here.http.post("/users", json=body)).status_code == 201
        assert [(call.args[0], call.kwargs) for call in log.warning.call_args_list] == [
            (
                "account named like an administrator's",
                {"username": "admin", "reason": "refused in production"},
            ),
            (
                "easily guessed password",
                {"username": "admin", "reason": "is one of the commonest passwords"},
            ),
        ]
        logged_in = await here.http.post("/authentication", json=body)
        assert logged_in.status_code == 200
        me = await here.http.get("/users/me", headers=bearer(logged_in.json()["access_token"]))
        assert me.json()["is_admin"] is False


async def test_sign_up_can_be_closed(site):
    async with site(allow_signup=False) as here:
        user, administrator = await here.user("bob"), await here.user("root", is_admin=True)
        for headers in ({}, user, SHARED, {"x-api-key": "wrong"}, bearer("wrong")):
            closed = await here.http.post("/users", json=ADA, headers=headers)
            assert (closed.status_code, closed.json()["code"]) == (403, "SIGNUP_CLOSED")
        for number, headers in enumerate((ADMIN, administrator)):
            body = {**ADA, "username": f"ada-{number}"}
            made = await here.http.post("/users", json=body, headers=headers)
            assert made.status_code == 201
        assert (await here.http.post("/authentication", json=body)).status_code == 200


async def test_an_unknown_user_answers_like_a_wrong_password(site, monkeypatch):
    async with site() as here:
        await here.account("ada")
        checked = []
        matches = here.services.passwords._matches

        def counted(password_hash, password):
            checked.append((password_hash.split("$")[1], threading.current_thread()))
            return matches(password_hash, password)

        monkeypatch.setattr(here.services.passwords, "_matches", counted)
        answers = []
        for body in (
            {"username": "ada", "password": "wrong password"},
            {"username": "bob", "password": "wrong password"},
            {"username": "x" * 200, "password": ""},
            {"username": "", "password": PASSWORD},
        ):
            response = await here.http.post("/authentication", json=body)
            # Each request has its own.
            assert response.headers.pop("X-Request-Id")
            response.headers.pop("RateLimit")
            answers.append((response.status_code, response.content, response.headers.raw))
        assert answers == [answers[0]] * 4
        assert answers[0][0] == 401
        assert b"INVALID_CREDENTIALS" in answers[0][1]
        assert b"www-authenticate" in dict(answers[0][2])
        # One hash each, of the same kind, and none on the event loop.
        assert [kind for kind, _ in checked] == ["argon2id"] * 4
        assert threading.current_thread() not in {thread for _, thread in checked}


async def test_wrong_passwords_are_limited_by_account_and_right_ones_are_not(site):
    async with site(rate_limit_failed_logins=1_000) as here:
        await here.account("ada")
        await here.account("bob")
        for _ in range(12):
            assert (await here.http.post("/authentication", json=ADA)).status_code == 200
        wrong = {"username": "ada", "password": "wrong password"}
        answers = [await here.http.post("/authentication", json=wrong) for _ in range(12)]
        assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
        assert 0 < int(answers[-1].headers["retry-after"]) <= 61
        assert answers[-1].json()["code"] == "RATE_LIMITED"
        assert (await here.http.post("/authentication", json=ADA)).status_code == 429
        other = await here.http.post("/authentication", json={**ADA, "username": "bob"})
        assert other.status_code == 200
        # Nor does an unknown name tell by this that it is unknown.
        unknown = {"username": "eve", "password": "wrong password"}
        codes = [
            (await here.http.post("/authentication", json=unknown)).status_code for _ in range(11)
        ]
        assert codes == [401] * 10 + [429]


async def test_wrong_passwords_are_limited_by_address(site):
    async with site(rate_limit_failed_logins=3) as here:
        user = await here.user("ada")
        codes = [
            (
                await here.http.post(
                    "/authentication", json={"username": f"user {n}", "password": "wrong"}
                )
            ).status_code
            for n in range(5)
        ]
        assert codes == [401, 401, 401, 429, 429]
        assert (await here.http.post("/authentication", json=ADA)).status_code == 429
        # Who has logged in goes on.
        assert await status(here, user) == 200


async def test_the_old_password_is_asked_for_and_counted_like_a_log_in(site):
    async with site(rate_limit_failed_logins=1_000) as here:
        user = await here.user("ada")
        body = {"password": "wrong password", "new_password": "another one"}
        codes = [
            (await here.http.put("/users/me/password", json=body, headers=user)).status_code
            for _ in range(11)
        ]
        assert codes == [401] * 10 + [429]
        same = {"password": PASSWORD, "new_password": PASSWORD}
        short = {"password": PASSWORD, "new_password": "1234567"}
        for refused in (same, short):
            response = await here.http.put("/users/me/password", json=refused, headers=user)
            assert response.status_code == 422


async def test_sign_ups_are_limited_by_address(site):
    async with site(rate_limit_failed_logins=3) as here:
        codes = [
            (await here.http.post("/users", json={**ADA, "username": f"user {n}"})).status_code
            for n in range(4)
        ]
        assert codes == [201] * 3 + [429]


async def test_too_many_log_ins_at_once_are_told_to_come_again(site, monkeypatch):
    async with site() as here:

        async def full(*_, **__):
            raise HeliographError(ErrorCode.QUEUE_FULL, "Too many", retry_after=5)

        monkeypatch.setattr(here.services.passwords, "verify", full)
        monkeypatch.setattr(here.services.passwords, "hash", full)
        for path in ("/authentication", "/users"):
            response = await here.http.post(path, json=ADA)
            assert (response.status_code, response.headers["retry-after"]) == (503, "5")


async def test_a_changed_password_ends_all_other_sessions_at_once(site):
    async with site() as here:
        account = await here.account("ada")
        this, other = await here.session(account), await here.session(account)
        ticket = (await here.http.post("/tickets", headers=other)).json()["ticket"]
        assert [await status(here, headers) for headers in (this, other)] == [200, 200]
        changed = await here.http.put(
            "/users/me/password",
            json={"password": PASSWORD, "new_password": "another one"},
            headers=this,
        )
        assert (changed.status_code, changed.content) == (204, b"")
        assert [await status(here, headers) for headers in (this, other)] == [200, 401]
        assert await here.services.authenticator.session(ticket, TICKET, now()) is None
        assert (await here.http.post("/authentication", json=ADA)).status_code == 401
        new = {"username": "ada", "password": "another one"}
        assert (await here.http.post("/authentication", json=new)).status_code == 200


async def test_a_log_in_that_a_change_of_the_password_overtakes_opens_nothing(site, monkeypatch):
    async with site() as here:
        account = await here.account("ada")
        verify = here.services.passwords.verify

        async def overtaken(*arguments):
            right = await verify(*arguments)
            await here.services.store.accounts.change_password(account.identifier, "another")
            return right

        monkeypatch.setattr(here.services.passwords, "verify", overtaken)
        response = await here.http.post("/authentication", json=ADA)
        assert (response.status_code, response.json()["code"]) == (401, "INVALID_CREDENTIALS")


async def test_a_log_in_renews_a_hash_of_other_parameters(site):
    former = PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash(PASSWORD)
    async with site() as here:
        await here.http.post("/users", json=ADA)
        accounts = here.services.store.accounts
        ada = await accounts.find_username("ada")
        await accounts.change_password(ada.identifier, former)
        wrong = {**ADA, "password": "wrong-lanterns"}
        assert (await here.http.post("/authentication", json=wrong)).status_code == 401
        assert (await accounts.find_username("ada")).password_hash == former
        # Of two at a time the one that comes second finds what the first has made.
        answers = await asyncio.gather(
            *(here.http.post("/authentication", json=ADA) for _ in range(2))
        )
        assert [answer.status_code for answer in answers] == [200, 200]
        renewed = (await accounts.find_username("ada")).password_hash
        assert not here.services.passwords.is_outdated(renewed)
        # The sessions that there were go on.
        token = answers[0].json()["access_token"]
        assert (await here.http.get("/users/me", headers=bearer(token))).status_code == 200
        await here.http.post("/authentication", json=ADA)
        assert (await accounts.find_username("ada")).password_hash == renewed


async def test_only_hashes_are_stored(site, tmp_path):
    async with site() as here:
        token = (await here.http.post("/users", json=ADA)).json()["access_token"]
        ticket = (await here.http.post("/tickets", headers=bearer(token))).json()["ticket"]
        found = await here.services.store.accounts.find_session(hash_key(token), SESSION, now())
        assert found.account.username == "ada"
        assert found.account.password_hash.startswith("$argon2id$")
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("heliograph.db*"))
    assert hash_key(token) in stored
    for secret in (token, ticket, PASSWORD):
        assert secret.encode() not in stored
        assert bytes.fromhex(secret.partition(".")[0].ljust(64, "0")) not in stored


@pytest.mark.parametrize("days", [1, 30])
async def test_a_session_expires(site, monkeypatch, days):
    async with site(session_days=days) as here:
        await here.account("ada")
        token = (await here.http.post("/authentication", json=ADA)).json()["access_token"]
        start = now()
        assert await status(here, bearer(token)) == 200
        for passed, expected in ((days * DAY - MINUTE, 200), (days * DAY + MINUTE, 401)):
            monkeypatch.setattr(access_module, "now", lambda end=start + passed: end)
            assert await status(here, bearer(token)) == expected


async def test_a_session_that_was_remembered_ends_where_another_process_ends_it(site):
    async with site() as here:
        account = await here.account("ada")
        user = await here.session(account)
        assert await status(here, user) == 200
        token = user["authorization"].split()[1]
        await here.services.store.accounts.end_session(hash_key(token))
        await here.services.registry.changed()  # as each second
        assert await status(here, user) == 401


async def test_a_session_that_ends_while_it_is_looked_up_is_not_remembered(site, monkeypatch):
    async with site() as here:
        user = await here.user("ada")
        token = hash_key(user["authorization"].split()[1])
        accounts = here.services.store.accounts
        find_session = accounts.find_session

        async def overtaken(*arguments):
            found = await find_session(*arguments)
            await accounts.end_session(token)
            await here.services.registry.changed()
            # After which the server goes on with others' requests.
            assert await status(here, ADMIN, "/devices") == 200
            return found

        monkeypatch.setattr(accounts, "find_session", overtaken)
        await status(here, user)
        monkeypatch.undo()
        assert await status(here, user) == 401


async def test_what_is_remembered_is_bounded(site, monkeypatch):
    made = []

    class Seen(access_module.Access):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr("heliograph.http.services.Access", Seen)
    monkeypatch.setattr(access_module, "MAXIMUM_REMEMBERED", 3)
    async with site() as here:
        users = [await here.user(f"user {number}") for number in range(8)]
        network = await here.network("roof", **{f"user {n}": "viewer" for n in range(8)})
        for _ in range(2):
            for user in users:
                assert await status(here, user, f"/networks/{network}") == 200
    assert 1 <= max(len(access._sessions) for access in made) <= 3


async def test_who_is_remembered_may_what_he_may_though_his_roles_were_forgotten(site, monkeypatch):
    monkeypatch.setattr("heliograph.access.registry.MAXIMUM_ACCOUNTS", 1)
    async with site() as here:
        users = [await here.user(name) for name in ("ada", "bob")]
        network = await here.network("roof", ada="viewer", bob="viewer")
        for _ in range(2):
            for user in users:
                assert await status(here, user, f"/networks/{network}") == 200


async def test_cookies_are_for_pages_of_ours(site):
    async with site() as here:
        await here.account("ada")
        http = here.http
        refused = await http.post("/authentication", json={**ADA, "cookie": True})
        assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
        logged_in = await http.post(
            "/authentication", json={**ADA, "cookie": True}, headers=OWN_PAGE
        )
        cookie = logged_in.headers["set-cookie"]
        assert re.fullmatch(
            r"heliograph_session=[0-9a-f]{64}; HttpOnly; Max-Age=2592000; Path=/; SameSite=lax",
            cookie,
        )
        assert await status(here, {}) == 200
        body = {"network_name": "roof"}
        refusals = [
            {},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"sec-fetch-site": "cross-site", "origin": "http://localhost"},
            {"origin": "http://evil.example"},
            {"origin": "http://localhost.evil.example"},
            {"origin": "http://localhost:81"},
            {"origin": "null"},
            {"origin": ""},
            {"origin": "null", "host": ""},
        ]
        for headers in refusals:
            answer = await http.post("/networks", json=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN"), headers
            ended = await http.delete("/authentication", headers=headers)
            assert ended.status_code == 403
            # To read is no change, and another site's page does not see the answer.
            assert await status(here, headers) == 200
        allowed = ({"origin": "http://localhost"}, OWN_PAGE, {"sec-fetch-site": "none"})
        for number, headers in enumerate(allowed):
            answer = await http.post(
                "/networks", json={"network_name": f"{number}"}, headers=headers
            )
            assert answer.status_code == 201, headers
        ended = await http.delete("/authentication", headers=OWN_PAGE)
        assert ended.status_code == 204
        assert "Max-Age=0" in ended.headers["set-cookie"]
        http.cookies.clear()
        answer = await http.get("/users/me", headers={"cookie": cookie.split(";")[0]})
        assert (answer.status_code, answer.json()["code"]) == (401, "INVALID_TOKEN")


async def test_a_cookie_sends_data_like_a_token(site):
    async with site() as here:
        user = await here.user("ada")
        network = await here.network("roof", ada="editor")
        await here.device("pump-1", network_identifier=network)
        cookie = {"cookie": f"heliograph_session={user['authorization'].split()[1]}"}
        path = "/sensors/pump-1/measurements"
        for headers, expected in (
            (cookie, 403),
            (cookie | {"origin": "http://evil.example"}, 403),
            (cookie | OWN_PAGE, 201),
            (user, 201),
        ):
            sent = await here.http.post(path, json={"value": 1}, headers=headers)
            assert sent.status_code == expected
        assert (await here.http.get(path, headers=cookie)).status_code == 200


async def test_over_tls_cookies_are_for_tls(site):
    async with site() as here:
        await here.account("ada")
        url = "https://localhost/authentication"
        body = {**ADA, "cookie": True}
        for headers, expected in (
            ({"origin": "http://localhost"}, 403),
            ({"origin": "https://localhost"}, 200),
        ):
            answer = await here.http.post(url, json=body, headers=headers)
            assert answer.status_code == expected
        here.http.cookies.clear()
        cookie = answer.headers["set-cookie"]
        # As browsers ask for with such a name: Secure, of the whole host, of no domain.
        assert re.fullmatch(
            r"__Host-heliograph_session=[0-9a-f]{64}; HttpOnly; Max-Age=2592000; Path=/;"
            r" SameSite=lax; Secure",
            cookie,
        )
        name, _, token = cookie.partition(";")[0].partition("=")
        for scheme, sent, expected in (
            ("https", name, 200),
            # Another host of the domain, or whoever changes what is not encrypted, can set this.
            ("https", "heliograph_session", 401),
            ("http", name, 401),
        ):
            answer = await here.http.get(
                f"{scheme}://localhost/users/me", headers={"cookie": f"{sent}={token}"}
            )
            assert answer.status_code == expected
        ended = await here.http.delete(
            url, headers={"cookie": f"{name}={token}", "origin": "https://localhost"}
        )
        assert ended.headers["set-cookie"].startswith(f'{name}=""; HttpOnly; Max-Age=0; Path=/')


async def test_how_a_cookie_is_read(site):
    async with site() as here:
        user = await here.user("ada")
        for cookie, expected in {
            "heliograph_session={}": 200,
            "a=b; heliograph_session={}": 200,
            "a=b;heliograph_session={};c=d": 200,
            "heliograph_session= {}": 200,
            "heliograph_session=": 401,
            "heliograph_session": 401,
            "xheliograph_session={}": 401,
            "heliograph_session=x; heliograph_session={}": 401,
            'heliograph_session="{}"': 401,
            "": 401,
            ";;;=;": 401,
        }.items():
            headers = {"cookie": cookie.format(user["authorization"].split()[1])}
            assert await status(here, headers) == expected, cookie
            # Whatever else says who calls, comes first.
            assert await status(here, headers | {"authorization": "Bearer x"}) == 401, cookie
            assert await status(here, headers | {"authorization": "Basic x"}) == 401, cookie
            assert await status(here, headers | {"x-api-key": "x"}) == 401, cookie


async def test_other_sites_pages_get_no_anonymous_role(site):
    async with site(anonymous_role="owner") as here:
        await here.device("pump-1")
        for headers, expected in (
            ({}, 201),
            (OWN_PAGE, 201),
            ({"origin": "http://localhost"}, 201),
            ({"origin": "http://evil.example"}, 403),
            ({"sec-fetch-site": "cross-site"}, 403),
        ):
            for path in ("/sensors/pump-1/measurements", "/devices"):
                body = {"value": 1}
                if path == "/devices":
                    body = {"device_id": f"pump-{abs(hash(str(headers)))}"}
                answer = await here.http.post(path, json=body, headers=headers)
                assert answer.status_code == expected, (path, headers)
            assert await status(here, headers, "/devices") == 200


@pytest.mark.parametrize("length", [8, 256])
async def test_the_shortest_and_the_longest_password(site, length):
    async with site() as here:
        body = {"username": "ada", "password": "ü" * length}
        assert (await here.http.post("/users", json=body)).status_code == 201
        assert (await here.http.post("/authentication", json=body)).status_code == 200


async def test_a_short_password_is_told_in_the_field_s_words(site):
    async with site() as here:
        refused = await here.http.post("/users", json={"username": "ada", "password": "1234567"})
        (problem,) = refused.json()["detail"]
        assert problem == {
            "loc": ["body", "password"],
            "type": "string_too_short",
            "msg": "String should have at least 8 characters",
        }


async def test_a_ticket_lasts_a_minute_and_is_no_session(site):
    async with site() as here:
        user = await here.user("ada")
        made = await here.http.post("/tickets", headers=user)
        assert made.status_code == 201
        assert set(made.json()) == {"ticket", "expires_in"}
        ticket = made.json()["ticket"]
        assert made.json()["expires_in"] == accounts_module.TICKET_SECONDS == 60
        session = here.services.authenticator.session
        found = await session(ticket, TICKET, now())
        assert (found.kind, found.name) == ("user", "user:ada")
        assert abs(found.until - now() - MINUTE) < MINUTE // 2
        assert await session(ticket, TICKET, found.until) is None
        # Neither can stand for the other.
        assert await session(ticket, SESSION, now()) is None
        token = user["authorization"].split()[1]
        assert await session(token, TICKET, now()) is None
        for headers in (bearer(ticket), {"cookie": f"heliograph_session={ticket}"}):
            assert await status(here, headers) == 401
        again = await here.http.post("/tickets", headers=bearer(ticket))
        assert again.status_code == 401


async def test_the_first_administrator_comes_from_the_settings(site):
    settings = {"admin_username": "root", "admin_password": "correct horse"}
    async with site(**settings) as here:
        body = {"username": "root", "password": "correct horse"}
        answer = await here.http.post("/authentication", json=body)
        user = bearer(answer.json()["access_token"])
        me = (await here.http.get("/users/me", headers=user)).json()
        assert (me["username"], me["is_admin"]) == ("root", True)
        assert await status(here, user, "/metrics") == 200
        made = await here.http.post("/devices", json={"device_id": "pump-1"}, headers=user)
        assert made.status_code == 201


async def test_an_account_that_there_is_stays_what_it_is(site):
    async with site() as here:
        account = await here.account("root")
        settings = here.services.settings.model_copy(
            update={"admin_username": "root", "admin_password": SecretStr("correct horse")}
        )
        store, passwords = here.services.store, here.services.passwords
        await server.make_administrator(settings, store, passwords)  # as at the start
        assert await here.services.store.accounts.find_username("root") == account
        assert not account.is_admin


async def test_the_event_loop_is_free_while_a_password_is_checked(site):
    async with site() as here:
        await here.account("ada")
        free, matches = threading.Event(), here.services.passwords._matches

        def held(*arguments):
            assert free.wait(10)
            return matches(*arguments)

        here.services.passwords._matches = held
        waiting = asyncio.create_task(here.http.post("/authentication", json=ADA))
        assert await status(here, ADMIN, "/devices") == 200
        assert not waiting.done()
        free.set()
        assert (await waiting).status_code == 200


async def test_an_account_out_of_use_answers_like_a_wrong_password(site, monkeypatch):
    async with site() as here:
        account = await here.account("ada")
        user = await here.session(account)
        assert await status(here, user) == 200
        wrong = await here.http.post("/authentication", json={**ADA, "password": "a wrong one"})
        await here.services.store.accounts.activate(account.identifier, is_active=False)
        await here.services.registry.changed()  # as each second
        assert await status(here, user) == 401
        checked = []
        matches = here.services.passwords._matches
        monkeypatch.setattr(
            here.services.passwords,
            "_matches",
            lambda *given: checked.append(given) or matches(*given),
        )
        refused = await here.http.post("/authentication", json=ADA)
        assert (refused.status_code, refused.content) == (401, wrong.content)
        # It costs a hash, like everybody's.
        assert len(checked) == 1
        assert await here.services.authenticator.password("ada", PASSWORD, "") is None
        await here.services.store.accounts.activate(account.identifier, is_active=True)
        await here.services.registry.changed()
        assert await status(here, user) == 401
        assert (await here.http.post("/authentication", json=ADA)).status_code == 200


async def test_a_log_in_that_a_deactivation_overtakes_opens_nothing(site, monkeypatch):
    async with site() as here:
        account = await here.account("ada")
        verify = here.services.passwords.verify

        async def overtaken(*arguments):
            right = await verify(*arguments)
            await here.services.store.accounts.activate(account.identifier, is_active=False)
            return right

        monkeypatch.setattr(here.services.passwords, "verify", overtaken)
        response = await here.http.post("/authentication", json=ADA)
        assert (response.status_code, response.json()["code"]) == (401, "INVALID_CREDENTIALS")


async def test_where_one_is_logged_in_is_listed_and_ended(site, database_url):
    async with site(database_url=database_url) as here:
        agent = "Field/1\x1b[2J" + "x" * 300
        await here.http.post("/users", json=ADA, headers={"user-agent": agent})
        opened = await here.http.post("/authentication", json=ADA, headers={"user-agent": "Desk"})
        desk = bearer(opened.json()["access_token"])
        now_at, field = (await here.http.get("/users/me/sessions", headers=desk)).json()
        assert (now_at["user_agent"], now_at["is_current"]) == ("Desk", True)
        assert now_at["address"] == field["address"] == "127.0.0.1"
        assert field["is_current"] is False
        assert field["user_agent"].startswith("Field/1\\x1b[2Jx")
        assert len(field["user_agent"]) == 255
        assert field["last_used_at"] is None
        assert parse(now_at["expires_at"]) - parse(now_at["created_at"]) == 30 * DAY
        # What memory knows is written with what sensors have sent.
        await here.services.registry.flush()
        account = await here.services.store.accounts.find_username("ada")
        stored = await here.services.store.accounts.sessions(account.identifier, now())
        assert [each.used_at for each in stored] == [parse(now_at["last_used_at"]), None]
        mine = hash_key(desk["authorization"].removeprefix("Bearer ").encode())
        later = now() + 4 * MINUTE
        for used, noted in ((later, stored[0].used_at), (later + 2 * MINUTE, later + 2 * MINUTE)):
            here.services.registry.note_session(mine, used)
            await here.services.registry.flush()
            again = await here.services.store.accounts.sessions(account.identifier, now())
            assert again[0].used_at == noted
        # No time moves back.
        await here.services.store.accounts.touch_sessions({mine: 5, b"\x01" * 32: 5})
        again = await here.services.store.accounts.sessions(account.identifier, now())
        assert [each.used_at for each in again] == [later + 2 * MINUTE, None]
        path = f"/users/me/sessions/{field['id']}"
        assert (await here.http.delete(path, headers=desk)).status_code == 204
        gone = await here.http.delete(path, headers=desk)
        assert (gone.status_code, gone.json()["code"]) == (404, "SESSION_NOT_FOUND")
        left = (await here.http.get("/users/me/sessions", headers=desk)).json()
        assert [each["id"] for each in left] == [now_at["id"]]
        # One's own as well: then one is logged out.
        path = f"/users/me/sessions/{now_at['id']}"
        assert (await here.http.delete(path, headers=desk)).status_code == 204
        assert await status(here, desk) == 401
