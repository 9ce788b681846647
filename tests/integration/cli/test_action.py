"""`heliograph action`: what rules have begun, and having it done again."""

import json
import re
import uuid

import pytest

from bare_environment import without_variables
from commands import called
from heliograph.model.time import now
from heliograph.store import open_store
from heliograph.store.rule_states import EnteredAction

RULE = "0b9f5a0e-8a1e-4f0e-9a70-4f0b8e6f9d11"


@pytest.fixture
async def failed(sqlite_url):
    """A database with an action that has failed; its id."""
    store = await open_store(sqlite_url)
    network = await store.networks.default()
    moment = now()
    sensor = await store.sensors.create(
        identifier=str(uuid.uuid4()), device_id="pump", created_at=moment
    )
    await store.rules.create(
        identifier=RULE,
        network_identifier=network.identifier,
        document={"name": "Too hot", "enabled": True},
        created_at=moment,
    )
    entered = EnteredAction(
        *(
            RULE,
            0,
            sensor.number,
            moment,
            1,
            None,
            network.identifier,
            "webhook",
            "{}",
            moment,
            moment,
        ),
        *("failed", moment, "answered 500"),
    )
    async with store.rule_states.turn() as turn:
        await turn.enter([entered])
    [action], _ = await store.actions.page(None, offset=0, limit=2)
    await store.close()
    return action.id


def test_actions_are_listed_and_repeated(failed, sqlite_url, tmp_path):
    def heliograph(*arguments):
        environment = {**without_variables(), "DATABASE_URL": sqlite_url}
        return called(*arguments, environment=environment, folder=tmp_path)

    listed = heliograph("action", "list", "--state", "failed")
    assert (listed.returncode, "answered 500" in listed.stdout) == (0, True)
    [shown] = json.loads(heliograph("action", "list", "--type", "webhook", "--json").stdout)
    assert (shown["id"], shown["state"], shown["error"]) == (failed, "failed", "answered 500")
    assert (shown["rule"], shown["device_id"]) == (RULE, "pump")
    assert re.search(r"failed +0 +Too hot +pump +", listed.stdout), listed.stdout
    assert shown["idempotency_key"] in listed.stdout
    assert heliograph("action", "repeat", str(failed)).returncode == 0
    refused = heliograph("action", "repeat", str(failed))
    assert (refused.returncode, "waits to be done anyway" in refused.stderr) == (1, True)
    unknown = heliograph("action", "repeat", "4711")
    assert (unknown.returncode, "there is no action 4711" in unknown.stderr) == (1, True)
