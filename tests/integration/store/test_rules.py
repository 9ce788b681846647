"""Rules, on both engines."""

import uuid

import msgspec
import pytest

from heliograph.errors import AlreadyExistsError
from heliograph.model.audit import Actor, ActorKind
from heliograph.processing.rules import document_of, parse
from heliograph.store import rules
from heliograph.store.rules import TooManyRulesError

ADA = Actor(ActorKind.USER, "ada")
HOT = {"name": "Hot", "condition": {"attribute": "temperature", "above": 30}}


async def entries(store):
    """Return what the audit log has about rules, oldest first."""
    found = await store.audit.list(limit=100)
    return [
        (each.action, each.resource_name, msgspec.json.decode(each.changes))
        for each in reversed(found)
        if each.action.startswith("rule.")
    ]


async def test_a_rule_is_made_found_changed_and_deleted(store, monkeypatch):
    network = (await store.networks.default()).identifier
    other = await store.networks.create(
        identifier=str(uuid.uuid4()), name="roof", created_at=1, owner=None
    )

    async def create(network=network, at=1, identifier=None, **members):
        document = document_of(parse(HOT | members))
        identifier = identifier or str(uuid.uuid4())
        return await store.rules.create(
            identifier=identifier,
            network_identifier=network,
            document=document,
            created_at=at,
            author="ada",
            actor=ADA,
        )

    hot = await create(identifier=str(uuid.uuid4()).upper())
    assert hot.network_identifier == network
    assert (hot.name, hot.enabled, hot.author, hot.changed_at) == ("Hot", True, "ada", 1)
    assert parse(msgspec.json.decode(hot.definition)) == parse(HOT)
    assert await store.rules.find(hot.identifier.upper()) == hot
    for unknown in (str(uuid.uuid4()), "Hot", "\0", ""):
        assert await store.rules.find(unknown) is None
    assert await create(network=str(uuid.uuid4())) is None

    for members, field in (
        ({}, "name"),
        ({"name": "x", "identifier": hot.identifier}, "identifier"),
    ):
        with pytest.raises(AlreadyExistsError) as raised:
            await create(**members)
        assert raised.value.field == field
    # A name is one network's.
    same = await create(network=other.identifier, at=2)
    off = await create(at=3, name="Off", enabled=False)

    # What is equal is not written, and a change that is refused changes nothing.
    version = await store.sensors.newest_change()
    assert await store.rules.change(hot.identifier, dict, changed_at=4, actor=ADA) == hot
    with pytest.raises(KeyError):
        await store.rules.change(hot.identifier, lambda _: {}["name"], changed_at=4)
    with pytest.raises(AlreadyExistsError):
        await store.rules.change(hot.identifier, lambda it: it | {"name": "Off"}, changed_at=4)
    assert await store.rules.find(hot.identifier) == hot
    assert await store.sensors.newest_change() == version

    hooks = [{"type": "webhook", "url": "https://example.com/secret", "on": "raised"}]
    changed = await store.rules.change(
        hot.identifier, lambda it: it | {"for": 60, "actions": hooks}, changed_at=4, actor=ADA
    )
    assert (changed.changed_at, changed.created_at) == (4, 1)
    assert msgspec.json.decode(changed.definition)["for"] == 60
    # Caches of other servers learn of it.
    assert await store.sensors.newest_change() != version
    assert await store.rules.change(str(uuid.uuid4()), dict, changed_at=5) is None

    assert await store.rules.enabled() == [changed, same]
    for which, wanted in (
        ({"networks": None}, [changed, same, off]),
        ({"networks": [network]}, [changed, off]),
        ({"networks": []}, []),
        ({"networks": None, "enabled": False}, [off]),
        ({"networks": None, "name": "Hot"}, [changed, same]),
    ):
        assert await store.rules.page(**which, offset=0, limit=9) == (wanted, len(wanted))
    assert await store.rules.page(networks=None, offset=1, limit=1) == ([same], 3)

    monkeypatch.setattr(rules, "MAXIMUM_RULES", 2)
    with pytest.raises(TooManyRulesError):
        await create(name="third")
    assert await store.rules.delete(off.identifier, actor=ADA)
    assert not await store.rules.delete(off.identifier, actor=ADA)

    told = [each for each in await entries(store) if each[1] in ("Off", "Hot")]
    actions = {"for": {"old": 0, "new": 60}, "actions": {}}
    assert ("rule.change", "Hot", actions) in told
    assert [action for action, *_ in told].count("rule.create") == 3
    assert told[-1] == ("rule.delete", "Off", {})
