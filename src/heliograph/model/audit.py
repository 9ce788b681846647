"""The audit log: who did what to which resource, when."""

import enum
from collections.abc import Mapping
from typing import Any

import msgspec

from heliograph.model.principal import Principal
from heliograph.model.time import to_rfc3339


class ActorKind(enum.StrEnum):
    """What somebody who changes something is known by."""

    USER = "user"
    ADMIN_KEY = "admin_key"
    DEVICE = "device"
    SHARED_KEY = "shared_key"
    ANONYMOUS = "anonymous"
    COMMAND_LINE = "command_line"
    SYSTEM = "system"


class AuditAction(enum.StrEnum):
    """Everything that is entered: the kind of resource, a dot, and what was done to it."""

    USER_CREATE = "user.create"
    USER_CHANGE_PASSWORD = "user.change_password"  # noqa: S105 - an action, not a secret
    USER_DEACTIVATE = "user.deactivate"
    USER_ACTIVATE = "user.activate"
    USER_LOG_IN = "user.log_in"
    USER_FAIL_TO_LOG_IN = "user.fail_to_log_in"
    USER_LOG_OUT = "user.log_out"
    USER_MAKE_TICKET = "user.make_ticket"
    NETWORK_CREATE = "network.create"
    NETWORK_CHANGE = "network.change"
    NETWORK_DELETE = "network.delete"
    MEMBER_CREATE = "member.create"
    MEMBER_CHANGE = "member.change"
    MEMBER_DELETE = "member.delete"
    SENSOR_CREATE = "sensor.create"
    SENSOR_CHANGE = "sensor.change"
    SENSOR_CHANGE_KEY = "sensor.change_key"
    SENSOR_REVOKE_KEY = "sensor.revoke_key"
    SENSOR_CONFIGURE = "sensor.configure"
    SENSOR_DELETE = "sensor.delete"
    SENSOR_ERASE = "sensor.erase"
    NODE_CREATE = "node.create"
    NODE_CHANGE = "node.change"
    NODE_DELETE = "node.delete"
    ANNOTATION_CREATE = "annotation.create"
    ANNOTATION_CHANGE = "annotation.change"
    ANNOTATION_DELETE = "annotation.delete"
    BOARD_CREATE = "board.create"
    BOARD_CHANGE = "board.change"
    BOARD_DELETE = "board.delete"
    RULE_CREATE = "rule.create"
    RULE_CHANGE = "rule.change"
    RULE_DELETE = "rule.delete"
    ACTION_REPEAT = "action.repeat"
    CHANNEL_CREATE = "channel.create"
    CHANNEL_CHANGE = "channel.change"
    CHANNEL_DELETE = "channel.delete"
    ALERT_ACKNOWLEDGE = "alert.acknowledge"
    ALERT_CLEAR = "alert.clear"
    SILENCE_CREATE = "silence.create"
    SILENCE_CHANGE = "silence.change"
    SILENCE_END = "silence.end"
    CLOCK_ACCEPT = "clock.accept"
    RETENTION_ACCEPT = "retention.accept"
    SETTINGS_CHANGE = "settings.change"
    MESSAGE_RESUBMIT = "message.resubmit"


class Actor(msgspec.Struct, frozen=True):
    """Who changes something. `address` is the caller's, None on the command line."""

    kind: ActorKind
    name: str
    address: str | None = None


# The actor of changes that nobody asked for: the server by itself.
SYSTEM = Actor(ActorKind.SYSTEM, "system")


class AuditedChange(msgspec.Struct, frozen=True):
    """What was done to one resource.

    `changes` has the members that changed, by the names that the API gives them, each with
    `old` and `new` where it was and became something harmless to tell; a secret has neither.
    """

    action: AuditAction
    identifier: str | None = None
    name: str | None = None
    network: str | None = None
    changes: Mapping[str, Mapping[str, Any]] = {}


class AuditEntry(msgspec.Struct, frozen=True):
    """A change that was made. `timestamp` is in microseconds, `changes` JSON text."""

    id: int
    timestamp: int
    actor_kind: str
    actor_name: str
    address: str | None
    action: str
    resource_identifier: str | None
    resource_name: str | None
    network_identifier: str | None
    changes: msgspec.Raw

    @property
    def resource_kind(self) -> str:
        """What kind of thing was changed."""
        return self.action.partition(".")[0]

    def members(self) -> dict[str, Any]:
        """Return the entry as HTTP and the command line show it."""
        return {
            "id": str(self.id),
            "timestamp": to_rfc3339(self.timestamp),
            "actor_kind": self.actor_kind,
            "actor": self.actor_name,
            "address": self.address,
            "action": self.action,
            "resource_kind": self.resource_kind,
            "resource_identifier": self.resource_identifier,
            "resource_name": self.resource_name,
            "network_identifier": self.network_identifier,
            "changes": msgspec.json.decode(self.changes),
        }


_KINDS = {
    "admin": ActorKind.ADMIN_KEY,
    "device": ActorKind.DEVICE,
    "shared": ActorKind.SHARED_KEY,
    "anonymous": ActorKind.ANONYMOUS,
}


def actor_of(principal: Principal, address: str | None) -> Actor:
    """Return the caller as the audit log names them; an administrator is a user like others."""
    kind = ActorKind.USER if principal.account is not None else _KINDS[principal.kind]
    return Actor(kind, principal.name.partition(":")[2] or principal.name, address)
