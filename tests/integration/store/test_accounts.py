"""Accounts, sessions and memberships, on both engines."""

import asyncio
import uuid

import pytest

from heliograph.errors import AlreadyExistsError
from heliograph.model.account import Member
from heliograph.model.principal import Role
from heliograph.model.time import now
from heliograph.store import open_store
from heliograph.store.accounts import MOST, SESSION, TICKET
from heliograph.store.networks import LastOwnerError

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

FAR = 1 << 60


@pytest.fixture
def account(store):
    """Return a function that makes an account."""

    async def account(username, **members):
        options = {"password_hash": "old", "created_at": 1, **members}
        return await store.accounts.create(
            identifier=str(uuid.uuid4()), username=username, **options
        )

    return account


@pytest.fixture
def network(store):
    """Return a function that makes a network with the owners given."""

    async def network(name, *owners):
        made = await store.networks.create(
            identifier=str(uuid.uuid4()),
            name=name,
            created_at=1,
            owner=owners[0].identifier if owners else None,
        )
        for owner in owners[1:]:
            await store.networks.set_member(made.identifier, owner.identifier, Role.OWNER, 1)
        return made.identifier

    return network


async def test_an_account_is_found_by_name_and_identifier(store, account):
    ada = await account("ada", is_admin=True, created_at=2)
    eve = await account("Ada", created_at=1, may_look_alike=True)
    assert (ada.username, ada.is_admin, eve.is_admin) == ("ada", True, False)
    assert await store.accounts.find(ada.identifier) == ada
    assert await store.accounts.find_username("ada") == ada
    assert await store.accounts.find_username("Ada") == eve
    assert await store.accounts.list() == [eve, ada]
    for unknown in ("ADA", "", "ada ", "a\0", "\ud800", "x" * 10_000):
        assert await store.accounts.find_username(unknown) is None
    assert await store.accounts.find(str(uuid.uuid4())) is None
    with pytest.raises(AlreadyExistsError) as raised:
        await account("ada")
    assert raised.value.field == "username"


async def test_who_looks_like_another_is_refused_and_nothing_of_it_stays(store, account):
    ada = await account("ada")
    for name in ("Ada", "\u0430da"):
        with pytest.raises(AlreadyExistsError) as raised:
            await account(name)
        assert raised.value.field == "look"
        assert await store.accounts.find_username(name) is None
    assert await store.accounts.list() == [ada]
    # What the refused one did not look like alone is nobody's.
    assert await account("Adas")
    found = await asyncio.gather(
        *(account(name) for name in ("bob", "Bob", "B\u03bfb", "BOB")), return_exceptions=True
    )
    assert sum(isinstance(each, AlreadyExistsError) for each in found) == 3


async def test_the_oldest_holds_what_others_look_like(store, account):
    bob = await account("Bob", created_at=5)
    later = await account("bob", created_at=6, may_look_alike=True)
    oldest = await account("BOB", created_at=1, may_look_alike=True)
    ada = await account("ada")
    for _ in range(2):
        assert await store.accounts.claim_looks() == [(bob, oldest), (later, oldest)]
        rows = await store.engine.fetch("looks_list")
        held = dict(rows)
        assert held["bob"] == held["BOB"] == oldest.identifier
        assert held["Bob"] == bob.identifier
        assert held["ada"] == ada.identifier
        # As the data of another version may have had it.
        async with store.engine.transaction() as transaction:
            await transaction.fetch("looks_forget")
            await transaction.fetch("looks_claim", account=later.identifier, looks='["bob","x"]')


async def open_session(store, account, token, purpose=SESSION, expires_at=FAR):
    return await store.accounts.open_session(
        token, account, purpose=purpose, created_at=1, expires_at=expires_at
    )


async def test_a_session_is_found_by_its_hash_until_it_expires(store, account):
    ada = await account("ada")
    assert await open_session(store, ada, b"t" * 32, expires_at=100)
    found = await store.accounts.find_session(b"t" * 32, SESSION, 99)
    assert (found.account, found.expires_at) == (ada, 100)
    for token, purpose, moment in (
        (b"t" * 32, SESSION, 100),
        (b"t" * 32, TICKET, 99),
        (b"u" * 32, SESSION, 99),
        (b"", SESSION, 99),
    ):
        assert await store.accounts.find_session(token, purpose, moment) is None
    assert await store.accounts.end_session(b"t" * 32) is True
    assert await store.accounts.end_session(b"t" * 32) is False
    assert await store.accounts.find_session(b"t" * 32, SESSION, 99) is None


async def test_what_is_spent_is_gone(store, account):
    ada = await account("ada")
    assert await open_session(store, ada, b"t" * 32, TICKET, expires_at=100)
    spend = store.accounts.spend_session
    for token, purpose, moment in (
        (b"t" * 32, TICKET, 100),
        (b"t" * 32, SESSION, 99),
        (b"u" * 32, TICKET, 99),
    ):
        assert await spend(token, purpose, moment) is False
    found = await asyncio.gather(*(spend(b"t" * 32, TICKET, 99) for _ in range(8)))
    assert sorted(found) == [False] * 7 + [True]


async def test_a_password_that_was_changed_meanwhile_opens_nothing(store, account):
    ada = await account("ada")
    assert await store.accounts.change_password(ada.identifier, "new")
    assert not await open_session(store, ada, b"t" * 32)
    assert await store.accounts.find_session(b"t" * 32, SESSION, 1) is None


async def test_a_new_password_ends_all_sessions_but_one(store, account):
    ada, bob = await account("ada"), await account("bob")
    for token, whose, purpose in (
        (b"a" * 32, ada, SESSION),
        (b"b" * 32, ada, SESSION),
        (b"c" * 32, ada, TICKET),
        (b"d" * 32, bob, SESSION),
    ):
        assert await open_session(store, whose, token, purpose)
    change = store.accounts.change_password
    assert not await change(ada.identifier, "new", expected="another")
    assert await store.accounts.find_session(b"b" * 32, SESSION, 1)
    assert await change(ada.identifier, "new", expected="old", kept=b"a" * 32)
    assert (await store.accounts.find_username("ada")).password_hash == "new"
    found = [
        await store.accounts.find_session(bytes([letter]) * 32, purpose, 1) is not None
        for letter, purpose in ((97, SESSION), (98, SESSION), (99, TICKET), (100, SESSION))
    ]
    assert found == [True, False, False, True]
    assert not await change(str(uuid.uuid4()), "new")


async def test_what_has_expired_is_deleted(store, account):
    ada = await account("ada")
    await open_session(store, ada, b"a" * 32, expires_at=100)
    await open_session(store, ada, b"b" * 32, expires_at=101)
    await store.accounts.prune_sessions(100)
    assert await store.accounts.find_session(b"a" * 32, SESSION, 0) is None
    assert await store.accounts.find_session(b"b" * 32, SESSION, 0) is not None


async def test_an_account_has_a_bounded_number_of_sessions(store, account, monkeypatch):
    monkeypatch.setitem(MOST, SESSION, 2)
    monkeypatch.setitem(MOST, TICKET, 3)
    ada, bob = await account("ada"), await account("bob")
    others = [(b"b" * 32, bob, SESSION), (b"t" * 32, ada, TICKET)]
    for token, whose, purpose in others:
        assert await open_session(store, whose, token, purpose)

    async def sessions():
        found = [
            await store.accounts.find_session(token, SESSION, 1)
            for token in (b"1" * 32, b"2" * 32, b"3" * 32, b"4" * 32)
        ]
        return [each is not None for each in found]

    # The last is the newest, though the clock was put back for it.
    for token, created_at in ((b"2" * 32, 6), (b"1" * 32, 5), (b"3" * 32, 7), (b"4" * 32, 2)):
        assert await store.accounts.open_session(
            token, ada, purpose=SESSION, created_at=created_at, expires_at=FAR
        )
    assert await sessions() == [False, False, True, True]
    for token, _, purpose in others:
        assert await store.accounts.find_session(token, purpose, 1)


async def test_which_sessions_live(store, account):
    ada, bob = await account("ada"), await account("bob")
    await open_session(store, ada, b"\xaa" * 32)
    await open_session(store, bob, b"\xbb" * 32, expires_at=100)
    whose = {
        b"\xaa" * 32: ada.identifier,
        b"\xbb" * 32: bob.identifier,
        b"\xcc" * 32: ada.identifier,
    }
    assert await store.accounts.living_sessions(whose, 99) == {b"\xaa" * 32, b"\xbb" * 32}
    assert await store.accounts.living_sessions(whose, 100) == {b"\xaa" * 32}
    assert await store.accounts.living_sessions({}, 1) == set()


async def test_what_a_cache_must_hear_of_raises_the_registrys_version(store, account, network):
    ada, bob = await account("ada"), await account("bob")
    place = await network("roof", ada)
    living, expired = now() + 1_000_000_000, 100

    async def raises(change):
        before = (await store.sensors.newest_change()).version
        await change
        return (await store.sensors.newest_change()).version > before

    networks, accounts = store.networks, store.accounts
    assert await raises(networks.set_member(place, bob.identifier, Role.VIEWER, 1))
    assert await raises(networks.set_member(place, bob.identifier, Role.OWNER, 1))
    assert await raises(networks.remove_member(place, bob.identifier))
    # A log-in is nothing that anybody has to hear of, nor is the end of what was over.
    assert not await raises(open_session(store, ada, b"a" * 32, expires_at=living))
    assert not await raises(open_session(store, ada, b"b" * 32, expires_at=expired))
    assert not await raises(open_session(store, ada, b"c" * 32, TICKET, expires_at=living))
    assert not await raises(accounts.prune_sessions(expired))
    assert not await raises(accounts.end_session(b"c" * 32))
    assert await raises(accounts.end_session(b"a" * 32))
    assert await raises(accounts.change_password(ada.identifier, "new"))
    assert await raises(networks.delete(place))


async def test_what_is_known_of_accounts(store, account, network):
    ada, bob = await account("ada"), await account("bob")
    roof = await network("roof", ada)
    cellar = await network("cellar", bob)
    await store.networks.set_member(cellar, ada.identifier, Role.VIEWER, 1)
    known = store.accounts.known
    assert await known([ada.identifier, str(uuid.uuid4())]) == {
        ada.identifier: (ada, {roof: Role.OWNER, cellar: Role.VIEWER})
    }
    assert set(await known([ada.identifier, bob.identifier])) == {ada.identifier, bob.identifier}
    assert await known([]) == {}


async def test_members(store, account, network):
    ada, bob = await account("ada"), await account("bob")
    roof = await network("roof", ada)
    networks = store.networks
    assert await networks.set_member(roof, bob.identifier, Role.VIEWER, 2)
    assert await networks.set_member(roof, bob.identifier, Role.EDITOR, 3)
    assert await networks.members(roof) == [
        Member("ada", ada.identifier, Role.OWNER, 1),
        Member("bob", bob.identifier, Role.EDITOR, 2),
    ]
    assert await networks.remove_member(roof, bob.identifier)
    assert not await networks.remove_member(roof, bob.identifier)
    unknown = str(uuid.uuid4())
    assert not await networks.set_member(unknown, bob.identifier, Role.VIEWER, 1)
    assert not await networks.remove_member(unknown, bob.identifier)
    assert await networks.members(unknown) == []


async def test_the_last_owner_stays(store, account, network):
    ada, bob = await account("ada"), await account("bob")
    roof = await network("roof", ada)
    networks = store.networks
    await networks.set_member(roof, bob.identifier, Role.EDITOR, 1)
    for change in (
        networks.set_member(roof, ada.identifier, Role.EDITOR, 1),
        networks.remove_member(roof, ada.identifier),
    ):
        with pytest.raises(LastOwnerError):
            await change
    assert [member.role for member in await networks.members(roof)] == [Role.OWNER, Role.EDITOR]
    # A network that never had one, like the first, can lose its other members.
    default = (await networks.default()).identifier
    await networks.set_member(default, bob.identifier, Role.VIEWER, 1)
    assert await networks.remove_member(default, bob.identifier)


async def test_two_owners_who_leave_at_once_leave_one(database_url, store, account, network):
    ada, bob = await account("ada"), await account("bob")
    other = await open_store(database_url)
    try:
        for number in range(10):
            roof = await network(f"roof {number}", ada, bob)
            leaving = [
                store.networks.remove_member(roof, ada.identifier),
                other.networks.set_member(roof, bob.identifier, Role.VIEWER, 1),
            ]
            results = await asyncio.gather(*leaving, return_exceptions=True)
            assert sorted(map(type, results), key=str) == [bool, LastOwnerError]
            owners = [m for m in await store.networks.members(roof) if m.role is Role.OWNER]
            assert len(owners) == 1
    finally:
        await other.close()


async def test_networks_are_listed_for_those_who_see_them(store, account, network):
    ada, bob = await account("ada"), await account("bob")
    places = [await network(name, ada) for name in ("roof", "cellar", "attic")]
    await store.networks.set_member(places[1], bob.identifier, Role.VIEWER, 1)

    async def listed(whose, offset=0, limit=10):
        networks = None
        if whose is not None:
            ((_, roles),) = (await store.accounts.known([whose.identifier])).values()
            networks = list(roles)
        found, total = await store.networks.list(networks=networks, offset=offset, limit=limit)
        return {network.identifier for network in found}, total

    default = (await store.networks.default()).identifier
    assert await listed(None) == ({default, *places}, 4)
    assert await listed(ada) == (set(places), 3)
    assert await listed(bob) == ({places[1]}, 1)
    first, total = await listed(ada, limit=2)
    rest, _ = await listed(ada, offset=2)
    assert (first | rest, total, len(first)) == (set(places), 3, 2)


async def test_networks_are_found_by_name_or_identifier(store, network):
    roof, cellar, _ = [await network(name) for name in ("roof", "cellar", "attic")]
    assert await store.networks.named(["roof", cellar.upper(), "nobody"]) == {roof, cellar}
    assert await store.networks.named([]) == frozenset()


async def test_shared_keys_are_taken_where_that_was_said(store, network):
    default = (await store.networks.default()).identifier
    roof = await network("roof")
    assert await store.networks.sharing() == {default}
    assert (await store.networks.change(roof, shared_keys=True)).shared_keys is True
    assert await store.networks.sharing() == {default, roof}
    assert (await store.networks.change(default, shared_keys=False)).name == "default"
    assert await store.networks.sharing() == {roof}


async def test_names_of_networks_are_unique(store, account, network):
    roof = await network("roof")
    with pytest.raises(AlreadyExistsError):
        await network("roof")
    cellar = await network("cellar")
    with pytest.raises(AlreadyExistsError):
        await store.networks.change(cellar, name="roof")
    assert (await store.networks.change(roof, name="Roof")).name == "Roof"
    assert (await store.networks.change(cellar, name="roof")).identifier == cellar
    assert await store.networks.change(str(uuid.uuid4()), name="x") is None


async def test_a_network_with_sensors_stays(store, account, network):
    ada = await account("ada")
    roof = await network("roof", ada)
    sensor = await store.sensors.create(
        identifier=str(uuid.uuid4()), network_identifier=roof, created_at=1
    )
    with pytest.raises(AlreadyExistsError):
        await store.networks.delete(roof)
    default = (await store.networks.default()).identifier
    await store.sensors.change(sensor.number, network_identifier=default)
    assert await store.networks.delete(roof) is True
    assert await store.networks.delete(roof) is False
    assert (await store.accounts.known([ada.identifier]))[ada.identifier][1] == {}


async def test_an_account_out_of_use_has_no_sessions_and_no_roles(store, account):
    ada, bob = await account("ada"), await account("bob")
    for token, whose in ((b"a" * 32, ada), (b"b" * 32, bob)):
        assert await open_session(store, whose, token)
    assert await store.accounts.activate(ada.identifier, is_active=False)
    assert not await store.accounts.activate(ada.identifier, is_active=False)
    assert (await store.accounts.find_username("ada")).is_active is False
    assert await store.accounts.find_session(b"a" * 32, SESSION, 1) is None
    assert await store.accounts.find_session(b"b" * 32, SESSION, 1) is not None
    assert set(await store.accounts.known([ada.identifier, bob.identifier])) == {bob.identifier}
    assert not await open_session(store, ada, b"c" * 32)
    assert await store.accounts.activate(ada.identifier, is_active=True)
    # What has ended stays so.
    assert await store.accounts.find_session(b"a" * 32, SESSION, 1) is None
    assert await open_session(store, ada, b"c" * 32)
    assert set(await store.accounts.known([ada.identifier])) == {ada.identifier}
    assert not await store.accounts.activate(str(uuid.uuid4()), is_active=False)
