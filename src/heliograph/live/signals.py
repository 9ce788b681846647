"""What servers on one database tell one another, as texts that are short enough to be sent.

    message ─▶ JSON ─▶ pieces, each `<count><+ or .><text>`: more follows, or it is the last

A sender's pieces come in their order. The count makes no two pieces alike, of which PostgreSQL
would deliver one.
"""

from collections.abc import Iterator
from typing import TypeAlias

import msgspec

# NOTIFY takes 7,999 bytes, the count among them.
PIECE_BYTES = 7_900
# What a sender that never ends a message may keep another server from forgetting.
MAXIMUM_BYTES = 1 << 20
MAXIMUM_NETWORKS = 100


class Ids(msgspec.Struct, frozen=True, array_like=True, tag="ids"):
    """All that a server has made from one id to another is committed, or never will be.

    `networks` and `kinds` are those of what is new; None: any.
    """

    number: int
    after: int
    until: int
    networks: tuple[str, ...] | None = ()
    kinds: tuple[str, ...] = ()


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """A server has begun to listen, and asks the others where they are; it stands at this id."""

    number: int
    stands: int = 0


class RegistryChanged(msgspec.Struct, frozen=True, array_like=True, tag="registry"):
    """Somebody, a right, a session or a sensor is another one: whoever remembers them looks."""


class ReadSettings(msgspec.Struct, frozen=True, array_like=True, tag="read-settings"):
    """Workers of this group have to read their settings again, and to say so to who asks."""

    group: str
    asker: int
    question: int


class SettingsRead(msgspec.Struct, frozen=True, array_like=True, tag="settings-read"):
    """A worker has read its settings again, as it was asked."""

    group: str
    asker: int
    question: int
    number: int


class CountsAsked(msgspec.Struct, frozen=True, array_like=True, tag="counts-asked"):
    """Workers of this group are to tell what they have counted."""

    group: str
    asker: int
    question: int


class CountsTold(msgspec.Struct, frozen=True, array_like=True, tag="counts-told"):
    """What a worker has counted, as it was asked."""

    group: str
    asker: int
    question: int
    number: int
    counts: bytes


class Changed(msgspec.Struct, frozen=True, array_like=True, tag="change"):
    """What became of a sensor and has no id: its status, or its presence (since, connected)."""

    kind: str
    sensor: int
    payload: str
    row: tuple[int | None, bool] | None = None


class Shown(msgspec.Struct, frozen=True, array_like=True, tag="shown"):
    """An event of a stream that has no id, and is in no table as it is shown."""

    kind: str
    sensor: int
    network: str
    data: str
    device_id: str


class Revised(msgspec.Struct, frozen=True, array_like=True, tag="revised"):
    """New revisions of configurations, each behind its sensor's number."""

    revisions: tuple[tuple[int, int], ...]


class Configured(msgspec.Struct, frozen=True, array_like=True, tag="configured"):
    """Names under which configurations were published, each with the revision that was."""

    revisions: tuple[tuple[str, int], ...]


class Announced(msgspec.Struct, frozen=True, array_like=True, tag="published"):
    """What a server publishes itself, to those who subscribe at the moment."""

    topic: str
    payload: bytes
    network: str | None


class Asked(msgspec.Struct, frozen=True, array_like=True, tag="asked"):
    """MQTT sessions that a server asks for, whoever has them."""

    keys: tuple[bytes, ...]


class Given(msgspec.Struct, frozen=True, array_like=True, tag="given"):
    """MQTT sessions that a server has given up."""

    keys: tuple[bytes, ...]


Message: TypeAlias = (
    Ids
    | Hello
    | RegistryChanged
    | ReadSettings
    | SettingsRead
    | CountsAsked
    | CountsTold
    | Changed
    | Shown
    | Revised
    | Configured
    | Announced
    | Asked
    | Given
)

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def encode(message: Message) -> bytes:
    """Return a message as JSON."""
    return _encode(message)


class Pieces:
    """Cuts one server's messages."""

    def __init__(self) -> None:
        """Begin to count."""
        self._count = 0

    def of(self, encoded: bytes) -> Iterator[str]:
        """Yield a message in pieces."""
        at = 0
        while True:
            end = min(at + PIECE_BYTES, len(encoded))
            # Not within a character.
            while end < len(encoded) and encoded[end] & 0xC0 == 0x80:
                end -= 1
            self._count += 1
            mark = "." if end == len(encoded) else "+"
            yield f"{self._count}{mark}{encoded[at:end].decode()}"
            if end == len(encoded):
                return
            at = end


class Assembly:
    """Puts together what one other server sends.

    What can't be read, or is not whole, is left out: another version may have sent it.
    """

    def __init__(self) -> None:
        """Begin with whatever comes."""
        self._expected: int | None = None
        self._parts: list[str] = []
        self._size = 0
        self._is_lost = False

    def take(self, piece: str) -> Message | None:
        """Take the next piece; return a message if that is its last one."""
        count, mark, text = _divide(piece)
        if count != self._expected:
            self._parts, self._size = [], 0
            self._is_lost = not text.startswith("[")
        self._expected = None if count is None else count + 1
        self._size += len(text)
        self._is_lost = self._is_lost or self._size > MAXIMUM_BYTES
        if not self._is_lost:
            self._parts.append(text)
        if mark == "+":
            return None
        encoded = "" if self._is_lost else "".join(self._parts)
        self._parts, self._size, self._is_lost = [], 0, False
        try:
            return _decoder.decode(encoded)
        except msgspec.MsgspecError:
            return None


def _divide(piece: str) -> tuple[int | None, str, str]:
    for at, character in enumerate(piece[:20]):
        if character in "+.":
            count = piece[:at]
            return (int(count) if count.isdigit() else None), character, piece[at + 1 :]
    return None, "", ""
