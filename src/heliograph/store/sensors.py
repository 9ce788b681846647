"""Sensors: the registry's records, when each was last seen, and which are connected."""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import asdict

from heliograph.errors import AlreadyExistsError
from heliograph.model.audit import SYSTEM, Actor, AuditAction, AuditedChange
from heliograph.model.configuration import NewestRevision, newest_state
from heliograph.model.identifiers import is_device_id, is_uuid
from heliograph.model.records import ConnectionRow
from heliograph.model.sensor import AttributeLabel, NewSensor, Sensor
from heliograph.model.time import now
from heliograph.store.audit import (
    Changes,
    audited_change,
    created,
    differences,
    enter,
    sensor_change,
)
from heliograph.store.configurations import add_configuration, configured
from heliograph.store.engine import (
    RegistryChange,
    Row,
    Subject,
    Transaction,
    Work,
    json_text,
    narrowed,
)
from heliograph.store.networks import DEFAULT_NETWORK
from heliograph.store.nodes import changed_members, lock_node
from heliograph.store.removal import erase_piece, next_size

T = TypeVar("T")

CHANGEABLE = (
    "network_identifier",
    "device_id",
    "key_hash",
    "broker_password",
    "is_active",
    "name",
    "sensor_name",
    "serial_number",
    "manufacturer",
    "model",
    "modality",
    "node_identifier",
    "expected_interval",
    "tags",
    "attribute_labels",
    "latitude",
    "longitude",
    "place",
    "packing",
)
# Rows erased by the first transaction; those that follow take as many as fit into its time.
ERASED_AT_ONCE = 500
# What may be taken, and the network in which it is.
NAMES = ("network_identifier", "device_id", "sensor_name", "serial_number")
# What is unique: of several that are taken, the first is told.
UNIQUE = ("identifier", *NAMES[1:])
# Where they stand in a record: SQLite knows no booleans.
BOOLEANS = [
    Sensor.__struct_fields__.index(name)
    for name in ("is_active", "status_by_broker", "connection_open", "packing")
]
TAGS = Sensor.__struct_fields__.index("tags")
ATTRIBUTE_LABELS = Sensor.__struct_fields__.index("attribute_labels")

SORTED_BY = (
    "created_at",
    "device_id",
    "sensor_name",
    "name",
    "serial_number",
    "manufacturer",
    "model",
    "modality",
    "last_seen_at",
    "last_measurement_at",
)
# What means something to LIKE.
_WILD = re.compile("[%_!]")

_LABELS = dict[str, AttributeLabel]
_decode = msgspec.json.decode


class TakenError(AlreadyExistsError):
    """Unique names are taken; `taken` has index and field of each."""

    def __init__(self, taken: list[tuple[int, str]]) -> None:
        super().__init__(taken[0][1])
        self.taken = taken


class WrongNodeError(Exception):
    """A sensor's node is gone, or not one of the sensor's network."""


class Unwritten(NamedTuple):
    """What memory knows of sensors at a moment (now, if it is 0) that is written later.

    By their numbers: which are connected (`open`), which were and since when not (`gone`), when
    they were last seen and measured something last (`noted`). `alone`: no others are connected.
    """

    open: Sequence[int] = ()
    gone: Sequence[tuple[int, int]] = ()
    noted: Sequence[tuple[int, int, int | None]] = ()
    alone: bool = False
    moment: int = 0


NOTHING_UNWRITTEN = Unwritten()


class Sensors(Subject):
    """The sensors of all networks."""

    async def find(self, identifier: str) -> Sensor | None:
        """Return the sensor with this UUID (in any case) or `device_id`."""
        if is_uuid(identifier):
            identifier = identifier.lower()
            return await self._one(sensor_of, "sensor_by_identifier", identifier=identifier)
        if is_device_id(identifier):
            return await self._one(sensor_of, "sensor_by_device_id", device_id=identifier)
        return None

    async def find_number(self, number: int) -> Sensor | None:
        """Return the sensor with this internal number."""
        return await self._one(sensor_of, "sensor_by_number", number=number)

    async def find_key(self, key_hash: bytes) -> Sensor | None:
        """Return the sensor whose API key has this hash."""
        return await self._one(sensor_of, "sensor_by_key_hash", key_hash=key_hash)

    async def load(self, after: int, limit: int) -> list[Sensor]:
        """Return sensors with numbers above `after`, by number."""
        return await self._all(sensor_of, "sensors_load", after=after, limit=limit)

    async def attributes(self, numbers: Sequence[int]) -> dict[int, set[str]]:
        """Return the names of the attributes that each of the sensors has ever measured."""
        attributes: dict[int, set[str]] = {}
        wanted = json_text(numbers)
        for number, name in await self._engine.fetch("sensor_attributes", numbers=wanted):
            attributes.setdefault(number, set()).add(name)
        return attributes

    async def revisions(self, numbers: Sequence[int]) -> dict[int, NewestRevision]:
        """Return the newest revision of those of the sensors that have a configuration."""
        wanted = json_text(numbers)
        rows = await self._engine.fetch("sensors_revisions", numbers=wanted)
        return {
            number: NewestRevision(revision, newest_state(success, published))
            for number, revision, success, published in rows
        }

    async def create(self, *, actor: Actor = SYSTEM, **members: Any) -> Sensor:
        """Register a sensor with the members of `NewSensor`.

        Raises:
            AlreadyExistsError: the field's value is taken.
            WrongNodeError: its node is not one of its network.
        """
        return (await self.create_all([NewSensor(**members)], actor=actor))[0]

    async def create_all(
        self, sensors: Sequence[NewSensor], *, actor: Actor = SYSTEM
    ) -> list[Sensor]:
        """Register all of the sensors, or none.

        Raises:
            TakenError: values of some are taken, or given twice.
            WrongNodeError: a node is not one of its sensor's network.
        """
        [(default,)] = await self._engine.fetch("network_identifier", name=DEFAULT_NETWORK)
        registered: list[Sensor] = []

        async def work(transaction: Transaction) -> list[Sensor]:
            for sensor in sensors:
                network = sensor.network_identifier or default
                registered.append(await _create(transaction, sensor, network))
            await enter(transaction, actor, _all_created(sensors, registered))
            return registered

        try:
            return await self._engine.change(work)
        except AlreadyExistsError as error:
            found = await self._taken(sensors, default)
            raise TakenError(found or [(len(registered), error.field)]) from error

    async def _taken(self, sensors: Sequence[NewSensor], default: str) -> list[tuple[int, str]]:
        """Return index and field of all that is taken, in the store or by one before it."""
        taken: list[tuple[int, str]] = []
        seen: set[tuple[str, str | None, str]] = set()
        for index, sensor in enumerate(sensors):
            names = _names(sensor, sensor.network_identifier or default)
            names["identifier"] = sensor.identifier.lower()
            network = names["network_identifier"]
            fields = set(await self._names_taken(0, names))
            for field in UNIQUE:
                if (name := names[field]) is None:
                    continue
                key = (field, None if field in UNIQUE[:2] else network, name)
                if key in seen:
                    fields.add(field)
                seen.add(key)
            taken += [(index, field) for field in UNIQUE if field in fields]
        return taken

    async def _names_taken(self, number: int, names: dict[str, Any]) -> list[str]:
        """Return which names others have than the sensor of this number, in the order of UNIQUE."""
        wanted = {name: names[name] for name in ("identifier", *NAMES)}
        rows = await self._engine.fetch("sensor_names_taken", number=number, **wanted)
        return sorted({field for (field,) in rows}, key=UNIQUE.index)

    async def _changing(self, number: int, members: dict[str, Any], work: Work[T]) -> T:
        """Do work in a transaction that changes a sensor.

        Raises:
            AlreadyExistsError: the field's value is taken, the first of UNIQUE on each engine.
        """
        try:
            return await self._engine.change(work)
        except AlreadyExistsError as error:
            found = await self.find_number(number)
            names = {} if found is None else {name: getattr(found, name) for name in NAMES}
            taken = await self._names_taken(number, {"identifier": None, **names, **members})
            raise AlreadyExistsError(taken[0] if taken else error.field) from error

    async def change(self, number: int, *, actor: Actor = SYSTEM, **members: Any) -> Sensor | None:
        """Change the members given (of `CHANGEABLE`) and no others; None: no such sensor.

        A sensor that moves to another network leaves its node. A deleted one is none, unless
        `is_active` brings it back.

        Raises:
            AlreadyExistsError: the field's value is taken.
            TypeError: a member that can't be changed.
            WrongNodeError: the node is not one of the sensor's network.
        """

        async def work(transaction: Transaction) -> Sensor | None:
            return await _change(transaction, actor, number, members)

        return await self._changing(number, members, work)

    async def configure(
        self,
        number: int,
        configuration: str,
        *,
        author: str | None,
        actor: Actor = SYSTEM,
        **members: Any,
    ) -> tuple[Sensor, int] | None:
        """Do what `change` does, and add JSON text as the sensor's next revision.

        Returns:
            The sensor and the revision's number.

        Raises:
            AlreadyExistsError, TypeError, WrongNodeError: as from `change`.
        """

        async def work(transaction: Transaction) -> tuple[Sensor, int] | None:
            changed = await _change(transaction, actor, number, members)
            if changed is None:
                return None
            revision = await add_configuration(transaction, number, configuration, author)
            await enter(transaction, actor, [configured(changed, revision)])
            return changed, revision

        return await self._changing(number, members, work)

    async def detach(
        self, number: int, node_identifier: str, *, actor: Actor = SYSTEM
    ) -> Sensor | None:
        """Take the sensor off this node; None: it is not on it."""

        async def work(transaction: Transaction) -> Sensor | None:
            found = await lock_sensor(transaction, number)
            if found is None or found.node_identifier != node_identifier:
                return None
            return await _change(transaction, actor, number, {"node_identifier": None})

        return await self._engine.change(work)

    async def delete(
        self, number: int, moment: int, *, erases: bool = False, actor: Actor = SYSTEM
    ) -> bool:
        """Delete the sensor and keep its data; tell whether there is such a sensor.

        It is deactivated, has no key and no node, and is in no list. It goes by its names until
        another takes them. Again is no error. `erases`: the first of its data goes with it, and
        `erase` the rest; a repeat is entered in the audit log again.
        """

        async def work(transaction: Transaction) -> bool:
            found = await lock_sensor(transaction, number)
            if found is None:
                return False
            made: list[AuditedChange] = []
            if found.deleted_at is None:
                gone = {"is_active": False, "key_hash": None, "node_identifier": None}
                wanted = _columns(changed_members(found, CHANGEABLE, gone))
                rows = await transaction.fetch(
                    "sensor_change", number=number, **wanted, deleted_at=moment
                )
                changes = differences(found, sensor_of(*rows[0]))
                made.append(audited_change(AuditAction.SENSOR_DELETE, found, changes))
            if erases:
                await erase_piece(transaction, number, ERASED_AT_ONCE)
                made.append(audited_change(AuditAction.SENSOR_ERASE, found))
            await enter(transaction, actor, made)
            return True

        return await self._engine.change(work)

    async def erase(self, number: int) -> None:
        """Erase a deleted sensor: first its data, piece by piece, then its record.

        What ends halfway may be repeated. A sensor that somebody has brought back is left alone.
        """
        size, is_full = ERASED_AT_ONCE, False

        async def work(transaction: Transaction) -> tuple[int, int, float]:
            began = time.monotonic()
            sensor = await lock_sensor(transaction, number)
            if sensor is not None and sensor.deleted_at is None:
                return 0, 0, 0.0
            erased = await erase_piece(transaction, number, size)
            took = time.monotonic() - began
            others = 0
            if rejected:
                names = json_text([*map(list, rejected)])
                others = len(await transaction.fetch("rejected_messages_erase", names=names))
            if not erased and not others:
                await transaction.fetch("sensor_erase", number=number)
            return erased, others, took

        # Until there is nothing: what was on its way when it was deleted may come late.
        erased = others = 1
        while erased or others:
            rejected: Sequence[Row] = ()
            if not is_full:
                rejected = await self._engine.fetch(
                    "rejected_messages_of_sensor", sensor=number, limit=ERASED_AT_ONCE
                )
            erased, others, took = await self._engine.change(work)
            is_full = erased >= size
            if is_full:
                size = next_size(size, took)
        # What was packed of it may still lie where it was.
        while await self._engine.sweep():
            pass

    async def touch(self, rows: list[tuple[int, int, int | None]]) -> None:
        """Note (number, last seen, last measurement or None) of sensors; no time moves back."""
        if rows:
            await self._write("sensors_touch", rows=json_text(rows))

    async def newest_change(self) -> RegistryChange:
        """Return the registry's newest change: of a sensor or network by all but `touch`."""
        await self._engine.follow()
        rows = await self._engine.fetch("registry_version")
        return RegistryChange(*rows[0])

    async def has_had(self, change: RegistryChange) -> bool:
        """Return whether the registry comes from this change, lately, or was put back since."""
        return bool(await self._engine.fetch("registry_has_had", **change._asdict()))

    async def changed_since(self, version: int) -> list[Sensor]:
        """Return the sensors created or changed after the registry had this version."""
        return await self._all(sensor_of, "sensors_changed_since", version=version)

    async def erased_since(self, version: int) -> Sequence[int]:
        """Return the numbers of sensors erased after the registry had this version."""
        return await self._all(int, "sensors_erased_since", version=version)

    async def numbers(self, network: str, *, offset: int, limit: int) -> tuple[list[int], int]:
        """Return what `list` does of a network, of each sensor its number alone."""
        rows = await self._engine.fetch(
            "sensors_of_network", network=network, offset=offset, limit=limit
        )
        return _decode(rows[0][0], type=list[int]), rows[0][1]

    async def list(
        self,
        *,
        networks: Sequence[str] | None,
        offset: int,
        limit: int,
        only_devices: bool = False,
        serial_number: str | None = None,
        manufacturer: str | None = None,
        model: str | None = None,
        modality: str | None = None,
        node_identifier: str | None = None,
        tags: Sequence[str] = (),
        text: str | None = None,
        connected: bool | None = None,
        late: bool | None = None,
        sort: str | None = None,
        unwritten: Unwritten = NOTHING_UNWRITTEN,
    ) -> tuple[list[Sensor], int]:
        """Return a page of sensors in the order of their creation, and how many there are.

        `networks` narrows them to those of these networks; None: of all. Deleted ones are left
        out. They have all of the `tags`. `text` stands in a name or another text of theirs,
        whatever the case of A to Z. `sort` is one of `SORTED_BY`, with `-` in front from the
        greatest on; those that have none come last. What is `unwritten` counts as written.
        """
        which: dict[str, Any] = {
            "networks": narrowed(networks),
            "only_devices": only_devices,
            "serial_number": serial_number,
            "manufacturer": manufacturer,
            "model": model,
            "modality": modality,
            "node_identifier": node_identifier,
            "tags": json_text(tags) if tags else None,
        }
        page = {"offset": offset, "limit": limit}
        if text is None and connected is None and late is None and sort is None:
            return await self._page(sensor_of, "sensors", which, **page)
        which |= {
            "text": None if text is None else "%" + _WILD.sub(r"!\g<0>", text) + "%",
            "connected": connected,
            "late": late,
            "open": json_text(unwritten.open),
            "alone": unwritten.alone,
            "gone": json_text(unwritten.gone),
            "noted": json_text(unwritten.noted),
            "moment": unwritten.moment or now(),
        }
        descending = sort is not None and sort.startswith("-")
        order = {"sort": sort and sort.removeprefix("-"), "descending": descending}
        return await self._page(sensor_of, "sensors_narrowed", which, **order, **page)


class Connections(Subject):
    """The sensors' connections to the listener of this server, and on PostgreSQL to others'.

    `server` is the token of the one that notes it; a file has one server, which needs none.
    """

    async def note(self, rows: list[ConnectionRow], server: str = "") -> list[Sensor]:
        """Note which sensors are connected to the server's listener, or no more.

        Those are returned of which that is so: not who is connected to another server by now.
        """
        stored = await self._write("connections_store", rows=json_text(rows), server=server)
        return [sensor_of(*row) for row in stored]

    async def confirm(self, rows: list[ConnectionRow], server: str = "") -> None:
        """Note again which sensors are connected, where something else was noted since."""
        await self._write("connections_confirm", rows=json_text(rows), server=server)

    async def end(self, moment: int, living: Sequence[str] = ()) -> list[Sensor]:
        """Note that no sensor is connected, nor by what was said, but on the living servers.

        Those are returned of which that is new.
        """
        ended = await self._write("connections_end", moment=moment, living=list(living))
        return [sensor_of(*row) for row in ended]


def sensor_of(*columns: Any) -> Sensor:
    """Return the record of a row of the sensors' columns."""
    members = list(columns)
    for at in BOOLEANS:
        members[at] = bool(columns[at])
    tags, labels = columns[TAGS], columns[ATTRIBUTE_LABELS]
    members[TAGS] = () if tags == "[]" else _decode(tags, type=tuple[str, ...])
    members[ATTRIBUTE_LABELS] = {} if labels is None else _decode(labels, type=_LABELS)
    return Sensor(*members)


def _columns(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's members as the columns hold them."""
    labels = members["attribute_labels"]
    return {
        **members,
        "tags": json_text(sorted(set(members["tags"]))),
        "attribute_labels": json_text(labels) if labels else None,
    }


async def lock_sensor(transaction: Transaction, number: int) -> Sensor | None:
    """Return the sensor, which nobody else changes until the transaction ends."""
    rows = await transaction.fetch("sensor_locked", number=number)
    return sensor_of(*rows[0]) if rows else None


def _names(sensor: NewSensor, network: str) -> dict[str, Any]:
    return {**{name: getattr(sensor, name) for name in NAMES}, "network_identifier": network}


async def _create(transaction: Transaction, sensor: NewSensor, network: str) -> Sensor:
    names = _names(sensor, network)
    await _check_node(transaction, sensor.node_identifier, network)
    await transaction.fetch("sensor_names_release", **names)
    rows = await transaction.fetch(
        "sensor_create",
        **_columns(asdict(sensor)) | names | {"identifier": sensor.identifier.lower()},
    )
    registered = sensor_of(*rows[0])
    if sensor.configuration is not None:
        await add_configuration(transaction, registered.number, sensor.configuration, sensor.author)
    return registered


def _all_created(sensors: Sequence[NewSensor], registered: Sequence[Sensor]) -> list[AuditedChange]:
    entered: list[AuditedChange] = []
    for new, sensor in zip(sensors, registered, strict=True):
        more: Changes = {} if new.configuration is None else {"revision": {"new": 0}}
        entered.append(created(AuditAction.SENSOR_CREATE, sensor, more))
    return entered


async def _change(
    transaction: Transaction, actor: Actor, number: int, members: dict[str, Any]
) -> Sensor | None:
    node = members.get("node_identifier")
    carrier = await lock_node(transaction, node) if node is not None else None
    found = await lock_sensor(transaction, number)
    if found is None or (found.deleted_at is not None and not members.get("is_active")):
        return None
    if not members:
        return found
    wanted = changed_members(found, CHANGEABLE, members)
    network = wanted["network_identifier"]
    if node is not None and (carrier is None or carrier.network_identifier != network):
        raise WrongNodeError
    if node is None and network != found.network_identifier:
        wanted["node_identifier"] = None
    if any(getattr(found, field) != wanted[field] for field in NAMES):
        await transaction.fetch("sensor_names_release", **{name: wanted[name] for name in NAMES})
    rows = await transaction.fetch(
        "sensor_change", number=number, **_columns(wanted), deleted_at=None
    )
    changed = sensor_of(*rows[0])
    await enter(transaction, actor, sensor_change(found, changed))
    return changed


async def _check_node(transaction: Transaction, node: str | None, network: str) -> None:
    if node is None:
        return
    found = await lock_node(transaction, node)
    if found is None or found.network_identifier != network:
        raise WrongNodeError
