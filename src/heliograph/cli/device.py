"""`heliograph device`: works on the database itself, with or without a running server."""

import contextlib
import csv
import enum
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import typer

from heliograph.cli.database import collect, command_line, with_store
from heliograph.cli.device_file import DeviceLine, read_devices
from heliograph.cli.named import found_device, found_network, network_identifier
from heliograph.cli.output import (
    Json,
    Switch,
    echo,
    print_json,
    print_records,
    time_json,
    time_text,
)
from heliograph.errors import AlreadyExistsError, StartError
from heliograph.model.credentials import NO_KEY, key_members, new_api_key
from heliograph.model.identifiers import DEVICE_ID_RULE, may_name_a_device
from heliograph.model.presence import is_late, presence
from heliograph.model.sensor import NewSensor, Sensor, tags_fault
from heliograph.model.time import SECOND, now
from heliograph.printable import printable
from heliograph.store import Store
from heliograph.store.sensors import TakenError

KEYS = ("device_id", "id", "api_key")
# What people call a device, and its inventory.
TEXTS = ("name", "sensor_name", "serial_number", "manufacturer", "model", "modality")

app = typer.Typer(add_completion=False, no_args_is_help=True)

DeviceId = typer.Argument(help="What the device is called: 1 to 64 of A-Z a-z 0-9 _ -")
AnyDevice = typer.Argument(help="What the device is called, or its UUID.")


class Data(enum.StrEnum):
    """What becomes of what a deleted device has sent."""

    KEEP = "keep"
    DELETE = "delete"


@app.command()
def create(
    device_id: str = DeviceId,
    *,
    name: str | None = typer.Option(None, help="What people call it."),
    network: str | None = typer.Option(
        None, help="Its network's name or UUID; otherwise: default."
    ),
    sensor_name: str | None = typer.Option(None, help="A name unique in its network."),
    serial_number: str | None = typer.Option(None, help="Unique in its network."),
    manufacturer: str | None = typer.Option(None),
    model: str | None = typer.Option(None),
    modality: str | None = typer.Option(None, help="What it measures."),
    tag: list[str] | None = typer.Option(None, help="What it is filtered by; may be repeated."),
    json: Json = False,
) -> None:
    """Register a device and print its key, which is not shown again."""
    if not may_name_a_device(device_id):
        raise typer.BadParameter(DEVICE_ID_RULE, param_hint="DEVICE_ID")
    if fault := tags_fault(tag or ()):
        raise typer.BadParameter(fault, param_hint="--tag")
    key = new_api_key()

    async def work(store: Store) -> Sensor:
        in_network = await network_identifier(store, network)
        try:
            return await store.sensors.create(
                identifier=str(uuid.uuid4()),
                network_identifier=in_network,
                device_id=device_id,
                **key_members(key),
                name=name,
                sensor_name=sensor_name,
                serial_number=serial_number,
                manufacturer=manufacturer,
                model=model,
                modality=modality,
                tags=tuple(tag or ()),
                created_at=now(),
                actor=command_line(),
            )
        except AlreadyExistsError as error:
            raise StartError(f"{error.field} is already registered") from None

    sensor = with_store(work)
    text = f"device_id  {device_id}\nid         {sensor.identifier}"
    _show_key(key, _members(sensor), text, as_json=json)


@app.command("list")
def list_devices(
    *,
    network: str | None = typer.Option(None, help="Those of one network: its name or UUID."),
    active: bool | None = typer.Option(
        None, "--active/--inactive", help="Those in use, or out of it."
    ),
    connected: bool | None = typer.Option(
        None, "--connected/--not-connected", help="Those that are connected now, or not."
    ),
    late: bool | None = typer.Option(
        None, "--late/--not-late", help="Those silent for longer than is expected, or not."
    ),
    text: str | None = typer.Option(
        None, help="Those that have this in a name or in their inventory, whatever the case."
    ),
    serial_number: str | None = typer.Option(None),
    manufacturer: str | None = typer.Option(None),
    model: str | None = typer.Option(None),
    modality: str | None = typer.Option(None),
    tag: list[str] | None = typer.Option(
        None, help="Those with this tag; repeated, with all of them."
    ),
    json: Json = False,
) -> None:
    """List the devices in the order of their registration; options narrow it."""
    moment = now()

    def is_wanted(device: Sensor) -> bool:
        return (
            active in (None, device.is_active)
            and connected in (None, bool(presence(device).connected))
            and late in (None, bool(is_late(device, device.last_seen_at, moment)))
            and (text is None or _has(device, text.lower()))
        )

    async def work(store: Store) -> list[Sensor]:
        of_network = await network_identifier(store, network)

        async def read(devices: list[Sensor], wanted: int) -> list[Sensor]:
            page, _ = await store.sensors.list(
                networks=None if of_network is None else [of_network],
                offset=len(devices),
                limit=wanted,
                only_devices=True,
                serial_number=serial_number,
                manufacturer=manufacturer,
                model=model,
                modality=modality,
                tags=tag or (),
            )
            return page

        return await collect(read)

    devices = list(filter(is_wanted, with_store(work)))
    print_records(
        devices,
        _members,
        ("device_id", "name", "active", "created", "last seen", "id"),
        lambda device: (
            device.device_id or "-",
            device.name or "-",
            "yes" if device.is_active else "no",
            time_text(device.created_at),
            time_text(device.last_seen_at),
            device.identifier,
        ),
        as_json=json,
    )


@app.command()
def show(device_id: str = AnyDevice, *, json: Json = False) -> None:
    """Show all that is known of a device but its key; times as of half a minute ago."""

    async def work(store: Store) -> dict[str, Any]:
        device = await found_device(store, device_id)
        network = await store.networks.find(device.network_identifier)
        newest = (await store.sensors.revisions([device.number])).get(device.number)
        connected, changed = presence(device)
        return {
            **_members(device),
            "network_name": None if network is None else network.name,
            "node_id": device.node_identifier,
            "connected": connected,
            "connected_changed_at": time_json(changed),
            "late": is_late(device, device.last_seen_at, now()),
            "revision": newest and newest.revision,
            "configuration_state": newest and newest.state,
            "deleted_at": time_json(device.deleted_at),
        }

    members = with_store(work)
    if json:
        print_json(members)
        return
    width = max(map(len, members))
    for name, value in members.items():
        echo(f"{name:<{width}}  {printable(_text(value))}")


def _text(value: Any) -> str:
    """Return a member's value for people."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)


@app.command()
def deactivate(device_id: str = AnyDevice) -> None:
    """Take a device out of use: what it sends is rejected, its data stays."""
    _change(device_id, is_active=False)


@app.command()
def activate(device_id: str = AnyDevice) -> None:
    """Let a device be used again, with the key that it had; undoes a deletion, too."""
    _change(device_id, is_active=True)


@app.command()
def packing(
    device_id: str = AnyDevice,
    state: Switch = typer.Argument(help="Whether what it has measured may be packed."),
) -> None:
    """Have what a device has measured packed when it is old, or never; what is packed stays so."""
    _change(device_id, packing=state is Switch.ON)


@app.command()
def delete(
    device_id: str = AnyDevice,
    *,
    data: Data = typer.Option(
        Data.KEEP, help="What becomes of what it has sent: delete erases it, and the record."
    ),
    yes: bool = typer.Option(False, "--yes", help="Erase without asking."),
) -> None:
    """Delete a device: its key ends, it is in no list; what it measured stays readable by its id.

    Erasing is done by the server where SQLite has one: DELETE /sensors/<id>?data=delete.
    """
    erases = data is Data.DELETE
    if erases and not yes:
        typer.confirm(f"Erase all that {printable(device_id)} has sent?", abort=True, err=True)

    async def work(store: Store) -> None:
        device = await found_device(store, device_id)
        await store.sensors.delete(device.number, now(), erases=erases, actor=command_line())
        if erases:
            await store.sensors.erase(device.number)

    instead = "the server does it: DELETE /sensors/<id>?data=delete"
    with_store(work, claimed=instead if erases else None)


@app.command()
def rotate(device_id: str = AnyDevice, *, json: Json = False) -> None:
    """Give a device a new key and print it; the old one ends at once."""
    key = new_api_key()

    sensor = _change(device_id, **key_members(key))
    members = {"device_id": sensor.device_id, "id": sensor.identifier}
    _show_key(key, members, f"device_id  {sensor.device_id or '-'}", as_json=json)


@app.command()
def revoke(device_id: str = AnyDevice) -> None:
    """End a device's key: it stays in use, and sends nothing until it has a new one (rotate)."""
    _change(device_id, **NO_KEY)


def _show_key(key: str, members: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json({**members, "api_key": key})
    else:
        echo(f"{text}\napi_key    {key}")
        echo("Keep the key: it is not shown again.", err=True)


@app.command("import")
def import_devices(
    file: Path = typer.Argument(
        help="CSV, UTF-8, with a heading: device_id, and any of name, network_identifier (or"
        " its name), sensor_name, serial_number, manufacturer, model, modality, expected_interval"
        " (seconds), tags (separated by ;), latitude, longitude, place."
    ),
    *,
    output: Path | None = typer.Option(
        None, help="Write the keys to this new file, which only you may read, instead of printing."
    ),
) -> None:
    """Register the devices of a file, all or none, and give out their keys, as CSV.

    Devices that are registered already, in the same network, are left as they are.
    """
    lines = read_devices(file)

    async def work(store: Store) -> int:
        fresh = await _not_registered(store, lines)
        keys = [new_api_key() for _ in fresh]
        sensors = [
            NewSensor(identifier=str(uuid.uuid4()), created_at=now(), **key_members(key), **members)
            for (_, members), key in zip(fresh, keys, strict=True)
        ]
        rows = [(s.device_id, s.identifier, key) for s, key in zip(sensors, keys, strict=True)]
        with _kept(output, rows) if output and rows else contextlib.nullcontext():
            try:
                await store.sensors.create_all(sensors, actor=command_line())
            except TakenError as error:
                index, field = error.taken[0]
                raise StartError(f"line {fresh[index][0]}: {field} is already registered") from None
        if output is None and rows:
            _write_keys(sys.stdout, rows)
        return len(rows)

    registered = with_store(work)
    echo(f"registered {registered}, registered before {len(lines) - registered}", err=True)


async def _not_registered(store: Store, lines: Sequence[DeviceLine]) -> list[DeviceLine]:
    """Return the lines of devices that are new, each with its network's identifier.

    Raises:
        StartError: a network is unknown, or a device is registered in another.
    """
    default = (await store.networks.default()).identifier
    networks = {"": default}
    fresh: list[DeviceLine] = []
    for number, members in lines:
        wanted = members.get("network_identifier", "")
        if wanted not in networks:
            try:
                networks[wanted] = (await found_network(store, wanted)).identifier
            except StartError as error:
                raise StartError(f"line {number}: {error}") from None
        registered = await store.sensors.find(members["device_id"])
        if registered is None or registered.deleted_at is not None:
            members["network_identifier"] = networks[wanted]
            fresh.append((number, members))
        elif registered.network_identifier != networks[wanted]:
            raise StartError(
                f"line {number}: device_id {registered.device_id!r} is already registered in"
                " another network"
            )
    return fresh


@contextlib.contextmanager
def _kept(path: Path, rows: Sequence[Sequence[Any]]) -> Iterator[None]:
    """Write the keys to a new file before they count, so that none is lost; undo it on failure.

    Raises:
        StartError: there is such a file, or there can be none.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            _write_keys(file, rows)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise StartError(f"can't write {path}: {error.strerror}") from None
    try:
        yield
    except StartError:
        # Of any other failure nobody knows whether the devices were registered after all.
        path.unlink()
        raise


def _write_keys(file: TextIO, rows: Sequence[Sequence[Any]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(KEYS)
    writer.writerows(rows)


def _change(device_id: str, **members: Any) -> Sensor:
    """Return the device with these members changed.

    Raises:
        StartError: there is none, or it is deleted and stays so.
    """

    async def work(store: Store) -> Sensor:
        found = await found_device(store, device_id)
        changed = await store.sensors.change(found.number, actor=command_line(), **members)
        if changed is None:
            raise StartError(f"device {device_id!r} is deleted: device activate undoes that")
        return changed

    return with_store(work)


def _has(sensor: Sensor, text: str) -> bool:
    searched = ("identifier", "device_id", *TEXTS)
    return any(text in (getattr(sensor, name) or "").lower() for name in searched)


def _members(sensor: Sensor) -> dict[str, Any]:
    interval = sensor.expected_interval
    return {
        "device_id": sensor.device_id,
        "id": sensor.identifier,
        "network_identifier": sensor.network_identifier,
        **{name: getattr(sensor, name) for name in TEXTS},
        "expected_interval": None if interval is None else interval / SECOND,
        "tags": list(sensor.tags),
        "latitude": sensor.latitude,
        "longitude": sensor.longitude,
        "place": sensor.place,
        "packing": sensor.packing,
        "is_active": sensor.is_active,
        "has_key": sensor.key_hash is not None,
        "created_at": time_json(sensor.created_at),
        "last_seen_at": time_json(sensor.last_seen_at),
        "last_measurement_at": time_json(sensor.last_measurement_at),
    }
