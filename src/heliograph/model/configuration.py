"""Configurations: desired states of a sensor, and how far each of them has come."""

import enum
from typing import NamedTuple

import msgspec


class ConfigurationState(enum.StrEnum):
    """How far a revision has come.

    `superseded` is one that a newer one replaced before the device answered it.
    """

    PENDING = "pending"
    PUBLISHED = "published"
    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """A revision and its life so far; `configuration` is JSON text, times are microseconds.

    `acknowledgment_timestamp` is the device's time, `receipt_timestamp` ours.
    """

    revision: int
    configuration: msgspec.Raw
    created_at: int
    author: str | None
    publication_timestamp: int | None
    acknowledgment_timestamp: int | None
    receipt_timestamp: int | None
    success: bool | None
    is_current: bool

    @property
    def state(self) -> ConfigurationState:
        """How far it has come."""
        if self.success is None and not self.is_current:
            return ConfigurationState.SUPERSEDED
        return newest_state(self.success, self.publication_timestamp)


def newest_state(success: bool | None, publication_timestamp: int | None) -> ConfigurationState:
    """Return how far a sensor's newest revision has come."""
    if success is not None:
        return ConfigurationState.ACKNOWLEDGED if success else ConfigurationState.FAILED
    if publication_timestamp is None:
        return ConfigurationState.PENDING
    return ConfigurationState.PUBLISHED


class NewestRevision(NamedTuple):
    """The number of a sensor's newest revision, and how far it has come."""

    revision: int
    state: ConfigurationState


class Target(msgspec.Struct, frozen=True):
    """A sensor that is to be configured, and its newest revision, if it has one."""

    number: int
    identifier: str
    device_id: str | None
    revision: int | None
    configuration: msgspec.Raw | None


class Assigned(msgspec.Struct, frozen=True):
    """A revision that a sensor was given."""

    sensor_identifier: str
    device_id: str | None
    revision: int
    configuration: msgspec.Raw
