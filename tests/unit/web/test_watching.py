"""What an open stream shows when its caller's rights change."""

import pytest

from heliograph.live.frames import Frame
from heliograph.live.streams import Streams
from heliograph.live.viewer import Viewer
from heliograph.model.principal import Principal
from heliograph.web.watching import Watch


class Networks:
    """The registry, as far as it says which networks a user may see."""

    def __init__(self, *names):
        self.names = list(names)

    def networks_of(self, _principal):
        return self.names


@pytest.mark.parametrize(
    ("networks", "lost", "shown"),
    [(["a"], 2, []), (["a", "b", "c"], 0, ["a", "b"]), (["a", "b"], 0, ["a", "b"])],
)
async def test_what_waits_is_lost_with_a_network_and_counted(networks, lost, shown):
    registry = Networks("a", "b")
    streams, viewer = Streams(per_principal=1, maximum=1), Viewer()
    watch = Watch(registry, Principal("user", "user:ada"))
    viewer.allowed = watch.check(streams, viewer)
    streams.enter(viewer, "ada")
    streams.watch(viewer, watch.selection())
    for number, name in enumerate("ab"):
        streams.show([Frame("log", number, name, None, name.encode(), "pump")])
    registry.names = networks
    streams.changed()
    streams.show([Frame("log", 9, "a", None, b"next", "pump")])
    dropped, chunks = await viewer.take()
    data = b"".join(chunk.data for chunk in chunks).decode()
    assert dropped == lost
    assert [line for line in data.splitlines() if line.startswith("data: ")] == [
        f"data: {text}" for text in [*shown, "next"]
    ]
