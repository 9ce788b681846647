"""Who is calling: what a credential amounts to."""

import enum

import msgspec


class Role(enum.IntEnum):
    """What a principal may do in a network; each role includes those below it."""

    NONE = 0
    VIEWER = 1
    EDITOR = 2
    OWNER = 3


class Principal(msgspec.Struct, frozen=True):
    """The bearer of a credential.

    `kind` is `admin`, `user`, `device`, `shared` (one of DEVICE_API_KEYS), `anonymous` or
    `broker` (an external one, which has judged by itself who may publish what). `name`
    identifies it in limits, logs and rejected messages and holds no secret. `sensor` is the
    number of a device's own sensor; `device` the only device a shared key speaks for on MQTT;
    `account` the UUID of a user's account, an administrator's too; `session` the hash of the
    token that they came with, if it was one, and `until` its end, in microseconds; `key_hash` the
    hash of a shared key that does not speak for one device only.
    """

    kind: str
    name: str
    role: Role = Role.NONE
    sensor: int | None = None
    device: str | None = None
    account: str | None = None
    session: bytes | None = None
    until: int | None = None
    key_hash: bytes | None = None

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""
        return self.kind == "admin"

    def has_expired(self, moment: int) -> bool:
        """Return whether the session has come to its end at a moment in microseconds."""
        return self.until is not None and moment >= self.until
