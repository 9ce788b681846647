"""The open streams: who watches what, and how each event gets to them."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from heliograph.live import sse
from heliograph.live.frames import Frame, frames_of
from heliograph.live.positions import Watermarks
from heliograph.live.viewer import Chunk, Viewer, push_to_all
from heliograph.model.event import Committed
from heliograph.model.identifiers import MAXIMUM_INSTANCE

HEARTBEAT_SECONDS = 15.0
# Who has not taken a byte for so long is gone, or might as well be.
STALLED_SECONDS = 60.0
SWEEP_SECONDS = 1.0
# How long one that does not take its last bytes may hold up the end of the server.
CLOSE_SECONDS = 1.0

# What people of a network are told, who write comments: not its devices' to see.
FOR_PEOPLE = frozenset({"alert", "rule"})
# In place of a network's UUID: of the server itself.
SERVER = ""

REVOKED = "revoked"
SHUTTING_DOWN = "shutting down"
STALLED = "stalled"


class Selection(NamedTuple):
    """What is watched; None: all of it. Those who watch the same share what is sent.

    `networks` are UUIDs, `sensors` internal numbers, `kinds` names of events; `own` is a device's
    own sensor, which it watches in whatever network, but for what people alone are told;
    `of_server` whether what concerns the server itself is shown.
    """

    networks: frozenset[str] | None = None
    sensors: frozenset[int] | None = None
    kinds: frozenset[str] | None = None
    as_messages: bool = False
    own: int | None = None
    of_server: bool = False

    def covers(self, network: str, sensor: int) -> bool:
        """Return whether events of a sensor are among what is watched."""
        return (self.networks is None or network in self.networks or sensor == self.own) and (
            self.sensors is None or sensor in self.sensors
        )

    def wants(self, network: str, sensor: int, kind: str) -> bool:
        """Return whether an event is among what is watched."""
        if network == SERVER:
            return self.of_server and (self.kinds is None or kind in self.kinds)
        if not self.covers(network, sensor) or (self.kinds is not None and kind not in self.kinds):
            return False
        return kind not in FOR_PEOPLE or self.networks is None or network in self.networks

    def includes(self, other: "Selection") -> bool:
        """Return whether all that the other one watches of networks and sensors is watched here."""
        return self.of_server >= other.of_server and all(
            here is None or (there is not None and there <= here)
            for here, there in ((self.networks, other.networks), (self.sensors, other.sensors))
        )

    def chunk(self, frames: Sequence[Frame]) -> Chunk | None:
        """Return what of the frames is watched, in the form that it is sent in."""
        wanted = [f for f in frames if self.wants(f.network, f.sensor, f.kind)]
        if not wanted:
            return None
        parts = [f.reading if self.as_messages else f.sse for f in wanted]
        return Chunk(parts, [f.id for f in wanted])


class Streams:
    """Every open stream of the process. A sink of the hub."""

    def __init__(
        self,
        *,
        per_principal: int,
        maximum: int,
        began: Callable[[], None] = lambda: None,
        watermarks: Watermarks | None = None,
    ) -> None:
        """Allow so many streams.

        `began` is called when one begins to watch; `watermarks` knows up to which ingest ids
        everything has been published.
        """
        self.per_principal = per_principal
        self.maximum = maximum
        self._began = began
        self.watermarks = watermarks or Watermarks()
        # Told of events that are shown, and that other servers can't read from the tables.
        self.shown: Callable[[list[Frame]], None] | None = None
        self._of_principal: dict[int | str, int] = {}
        self._watching: dict[Selection, set[Viewer]] = {}
        # Those that are open but do not watch yet, or not any more.
        self._open: set[Viewer] = set()
        # Rights have changed since it was last looked at who may go on.
        self._changed = False
        self.closing = False

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    def watched(self) -> bool:
        """Return whether anybody watches."""
        return bool(self._watching)

    def has_room(self, principal: int | str) -> bool:
        """Return whether the principal may open one more."""
        return (
            len(self._open) < self.maximum
            and self._of_principal.get(principal, 0) < self.per_principal
        )

    def enter(self, viewer: Viewer, principal: int | str) -> None:
        """Count an open stream; `leave` has to follow."""
        viewer.principal = principal
        self._open.add(viewer)
        self._of_principal[principal] = self._of_principal.get(principal, 0) + 1
        viewer.touched_at = asyncio.get_running_loop().time()
        if self.closing:
            viewer.close(SHUTTING_DOWN)

    def leave(self, viewer: Viewer) -> bool:
        """Forget a stream that has ended; return whether it was open at all."""
        if viewer not in self._open:
            return False
        self._open.remove(viewer)
        left = self._of_principal[viewer.principal] - 1
        if left:
            self._of_principal[viewer.principal] = left
        else:
            del self._of_principal[viewer.principal]
        self.watch(viewer, None)
        return True

    def watch(self, viewer: Viewer, selection: Selection | None) -> None:
        """Send the viewer what is committed from now on, as the selection says."""
        if isinstance(viewer.selection, Selection):
            others = self._watching[viewer.selection]
            others.discard(viewer)
            if not others:
                del self._watching[viewer.selection]
        if viewer.closed == REVOKED:
            selection = None
        viewer.selection = selection
        if selection is not None:
            self._watching.setdefault(selection, set()).add(viewer)
            self._began()

    def behind(self) -> set[object]:
        """Return who has to take something before there is room for as much again."""
        return {viewer for viewer in self._open if viewer.is_behind}

    def networks(self) -> frozenset[str] | None:
        """Return the networks that somebody watches; None: any."""
        return _all_of(None if each.own else each.networks for each in self._watching)

    def kinds(self) -> frozenset[str] | None:
        """Return the kinds of events that somebody watches; None: any."""
        return _all_of(each.kinds for each in self._watching)

    def heartbeat(self) -> bytes:
        """Return a sign of life that says where those stand who have been sent everything."""
        own = self.watermarks.own()
        return sse.heartbeat(own, self.watermarks.beside(own & MAXIMUM_INSTANCE))

    def publish(self, events: Sequence[Committed]) -> None:
        """Queue what was committed for those who watch it."""
        frames = frames_of(events)
        if self.watermarks.others:
            beside: dict[int, bytes] = {}
            for frame in frames:
                if frame.id is not None:
                    number = frame.id & MAXIMUM_INSTANCE
                    if number not in beside:
                        beside[number] = self.watermarks.beside(number)
                    frame.beside = beside[number]
        self.show_here(frames)

    def show(self, frames: list[Frame]) -> None:
        """Show frames that no table has, here and on other servers."""
        if self.shown is not None:
            self.shown(frames)
        self.show_here(frames)

    def show_here(self, frames: list[Frame]) -> None:
        """Queue frames for those who watch them."""
        if not frames:
            return
        if self._changed:
            self._look_again()
        by_network: dict[str, list[Frame]] = {}
        by_sensor: dict[int, list[Frame]] = {}
        for frame in frames:
            by_network.setdefault(frame.network, []).append(frame)
            by_sensor.setdefault(frame.sensor, []).append(frame)
        moment = asyncio.get_running_loop().time()
        for selection, viewers in self._watching.items():
            networks, sensors = selection.networks, selection.sensors
            if sensors is not None and len(sensors) == 1:
                chunk = selection.chunk(by_sensor.get(next(iter(sensors)), ()))
            elif networks is not None and len(networks) == 1 and selection.own is None:
                chunk = selection.chunk(by_network.get(next(iter(networks)), ()))
            else:
                chunk = selection.chunk(frames)
            if chunk is not None:
                push_to_all(viewers, chunk, moment)

    def changed(self) -> None:
        """Look again who may watch what before anything else is shown, or soon."""
        self._changed = True

    def _look_again(self) -> None:
        self._changed = False
        for viewer in list(self._open):
            if not viewer.allowed():
                self._revoke(viewer)

    def _revoke(self, viewer: Viewer) -> None:
        """End a stream with nothing more, not even with what waits to be written."""
        viewer.close(REVOKED)
        viewer.discard()
        self.watch(viewer, None)

    async def run(self) -> None:
        """Send signs of life, and end the streams of those who may not watch any more."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep(asyncio.get_running_loop().time())

    def sweep(self, moment: float) -> None:
        """Do what is due at a moment of the loop's clock."""
        self._changed = False
        # With an id, so that a quiet stream too can be resumed later.
        watching, other = Chunk([self.heartbeat()], ()), Chunk([sse.heartbeat()], ())
        for viewer in list(self._open):
            since = viewer.writing_since
            if since is not None and moment - since >= STALLED_SECONDS:
                self._cut(viewer)
            elif not viewer.allowed():
                self._revoke(viewer)
                if since is not None:
                    self._cut(viewer)
            elif moment - viewer.touched_at >= HEARTBEAT_SECONDS:
                viewer.touched_at = moment
                viewer.push(other if viewer.selection is None else watching)

    def forget(self) -> None:
        """End every stream: what it may watch is known from another database."""
        for viewer in list(self._open):
            self._revoke(viewer)

    def close(self) -> None:
        """End every stream, and let none begin."""
        self.closing = True
        for viewer in self._open:
            viewer.close(SHUTTING_DOWN)
        if self._open:
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._cut_all)

    def _cut_all(self) -> None:
        for viewer in list(self._open):
            self._cut(viewer)

    @staticmethod
    def _cut(viewer: Viewer) -> None:
        viewer.close(STALLED)
        if viewer.task is not None:
            viewer.task.cancel()


def _all_of(sets: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    found: set[str] = set()
    for each in sets:
        if each is None:
            return None
        found |= each
    return frozenset(found)
