"""What an open stream shows when its caller's rights change."""

import pytest

from heliograph.access.policy import Grants, KnownAccount, UnknownSensor
from heliograph.http.watching import Watch
from heliograph.live.frames import Frame
from heliograph.live.streams import Streams
from heliograph.live.viewer import Viewer
from heliograph.model.account import Account
from heliograph.model.principal import Principal, Role

ADA = Principal("user", "user:ada", account="ada", session=b"token")


class Registry:
    """The registry, as far as it says in which networks Ada is a viewer."""

    def __init__(self, *networks):
        self.grants = Grants(sessions={b"token"})
        self.grant(networks)

    def grant(self, networks):
        ada = Account("ada", "ada", "hash", is_admin=False, created_at=0)
        roles = dict.fromkeys(networks, Role.VIEWER)
        self.grants.accounts = {"ada": KnownAccount(ada, roles)}


@pytest.mark.parametrize(
    ("networks", "lost", "shown"),
    [(["a"], 2, []), (["a", "b", "c"], 0, ["a", "b"]), (["a", "b"], 0, ["a", "b"])],
)
async def test_what_waits_is_lost_with_a_network_and_counted(networks, lost, shown):
    registry = Registry("a", "b")
    streams, viewer = Streams(per_principal=1, maximum=1), Viewer()
    watch = Watch(registry, ADA)
    viewer.allowed = watch.check(streams, viewer)
    streams.enter(viewer, "ada")
    streams.watch(viewer, watch.selection())
    for number, name in enumerate("ab"):
        streams.show([Frame("log", number, name, None, name.encode(), "pump")])
    registry.grant(networks)
    streams.changed()
    streams.show([Frame("log", 9, "a", None, b"next", "pump")])
    dropped, chunks = await viewer.take()
    data = b"".join(chunk.data for chunk in chunks).decode()
    assert dropped == lost
    assert [line for line in data.splitlines() if line.startswith("data: ")] == [
        f"data: {text}" for text in [*shown, "next"]
    ]


def test_a_device_goes_on_while_its_sensor_is_not_in_memory():
    registry, pump = Registry(), UnknownSensor(1, "a", is_active=True, key_hash=b"key")
    registry.grants.sensors = {1: pump}
    watch = Watch(registry, Principal("device", "device:pump", sensor=1), sensors=frozenset({1}))
    assert watch.is_allowed()
    registry.grants.sensors = {}
    assert watch.is_allowed()
    # What has changed is in memory.
    for changed in (pump._replace(key_hash=b"new"), pump._replace(is_active=False)):
        registry.grants.sensors = {1: changed}
        assert not watch.is_allowed()


def test_a_networks_stream_ends_with_the_role_in_it():
    registry = Registry("a", "b")
    watch = Watch(registry, ADA, network="a")
    assert watch.is_allowed()
    registry.grant(["b"])
    assert not watch.is_allowed()
    registry.grant(["a"])
    registry.grants.sessions = set()
    assert not watch.is_allowed()
