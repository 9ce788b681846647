"""Which QoS 2 exchanges a client has under way."""

PAGE = 256
UNDER_WAY = 1
COMMITTED = 2


class Exchanges:
    """Packet ids from PUBLISH to PUBREL, and whether their messages are committed.

    A client that never sends PUBREL has all 65,535 under way. A byte each, in pages that exist
    while one of their ids is in use, they take 84 KiB; in a dictionary it would be megabytes.
    """

    __slots__ = ("_count", "_pages")

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return self._count

    def is_committed(self, packet_id: int) -> bool | None:
        """Tell whether the message is committed; None: there is no such exchange."""
        page = self._pages.get(packet_id // PAGE)
        state = page[packet_id % PAGE] if page is not None else 0
        return state == COMMITTED if state else None

    def begin(self, packet_id: int) -> None:
        """Note an exchange that is not under way yet."""
        page = self._pages.get(packet_id // PAGE)
        if page is None:
            page = self._pages[packet_id // PAGE] = bytearray(PAGE)
        page[packet_id % PAGE] = UNDER_WAY
        self._count += 1

    def commit(self, packet_id: int) -> None:
        """Note that the message of an exchange that is under way is committed."""
        self._pages[packet_id // PAGE][packet_id % PAGE] = COMMITTED

    def end(self, packet_id: int) -> bool:
        """End an exchange; tell whether there was one."""
        page = self._pages.get(packet_id // PAGE)
        if page is None or not page[packet_id % PAGE]:
            return False
        page[packet_id % PAGE] = 0
        self._count -= 1
        if not any(page):
            del self._pages[packet_id // PAGE]
        return True
