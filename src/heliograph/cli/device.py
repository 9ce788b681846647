"""`heliograph device`: works on the database itself, with or without a running server."""

import contextlib
import csv
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import typer

from heliograph.cli.actor import command_line
from heliograph.cli.database import with_store
from heliograph.cli.device_file import DeviceLine, read_devices
from heliograph.cli.echo import echo
from heliograph.cli.output import print_json, print_table, time_json, time_text
from heliograph.errors import AlreadyExistsError, StartError
from heliograph.model.credentials import key_members, new_api_key
from heliograph.model.identifiers import DEVICE_ID_RULE, may_name_a_device
from heliograph.model.sensor import NewSensor, Sensor
from heliograph.model.time import now
from heliograph.settings import load_settings
from heliograph.store import Store
from heliograph.store.sensors import TakenError

PAGE = 1_000
KEYS = ("device_id", "id", "api_key")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Register devices, one by one or from a file, list them, renew their keys.",
)

DeviceId = typer.Argument(help="What the device is called: 1 to 64 of A-Z a-z 0-9 _ -")
Json = typer.Option(False, "--json", help="Print JSON.")


@app.command()
def create(
    device_id: str = DeviceId,
    *,
    name: str | None = typer.Option(None, help="What people call it."),
    network: str | None = typer.Option(None, help="Its network's UUID; otherwise: default."),
    sensor_name: str | None = typer.Option(None, help="A name unique in its network."),
    serial_number: str | None = typer.Option(None, help="Unique in its network."),
    manufacturer: str | None = typer.Option(None),
    model: str | None = typer.Option(None),
    modality: str | None = typer.Option(None, help="What it measures."),
    json: bool = Json,
) -> None:
    """Register a device and print its key, which is not shown again."""
    if not may_name_a_device(device_id):
        raise typer.BadParameter(DEVICE_ID_RULE, param_hint="DEVICE_ID")
    key = new_api_key()

    async def work(store: Store) -> Sensor:
        found = None if network in (None, "default") else await store.networks.find(str(network))
        if found is None and network not in (None, "default"):
            raise StartError(f"network {network!r} not found")
        try:
            return await store.sensors.create(
                identifier=str(uuid.uuid4()),
                network_identifier=found.identifier if found else None,
                device_id=device_id,
                **key_members(key),
                name=name,
                sensor_name=sensor_name,
                serial_number=serial_number,
                manufacturer=manufacturer,
                model=model,
                modality=modality,
                created_at=now(),
                actor=command_line(),
            )
        except AlreadyExistsError as error:
            raise StartError(f"{error.field} is already registered") from None

    sensor = with_store(load_settings(), work)
    if json:
        print_json({**_members(sensor), "api_key": key})
    else:
        echo(f"device_id  {device_id}\nid         {sensor.identifier}\napi_key    {key}")
        echo("Keep the key: it is not shown again.", err=True)


@app.command("list")
def list_devices(*, json: bool = Json) -> None:
    """List the devices in the order of their registration."""

    async def work(store: Store) -> list[Sensor]:
        devices: list[Sensor] = []
        while True:
            page, _ = await store.sensors.list(
                networks=None, offset=len(devices), limit=PAGE, only_devices=True
            )
            devices += page
            if len(page) < PAGE:
                return devices

    devices = with_store(load_settings(), work)
    if json:
        print_json([_members(device) for device in devices])
        return
    print_table(
        ("device_id", "name", "active", "created", "last seen", "id"),
        (
            (
                device.device_id or "-",
                device.name or "-",
                "yes" if device.is_active else "no",
                time_text(device.created_at),
                time_text(device.last_seen_at),
                device.identifier,
            )
            for device in devices
        ),
    )


@app.command()
def rotate(device_id: str = DeviceId, *, json: bool = Json) -> None:
    """Give a device a new key and print it; the old one ends at once."""
    key = new_api_key()

    async def work(store: Store) -> Sensor:
        found = await store.sensors.find(device_id)
        changed = found and await store.sensors.change(
            found.number, actor=command_line(), **key_members(key)
        )
        if not changed:
            raise StartError(f"device {device_id!r} not found")
        return changed

    sensor = with_store(load_settings(), work)
    if json:
        print_json({"device_id": sensor.device_id, "id": sensor.identifier, "api_key": key})
    else:
        echo(f"device_id  {sensor.device_id or '-'}\napi_key    {key}")
        echo("Keep the key: it is not shown again.", err=True)


@app.command("import")
def import_devices(
    file: Path = typer.Argument(
        help="CSV, UTF-8, with a heading: device_id, and any of name, network_identifier,"
        " sensor_name, serial_number, manufacturer, model, modality, expected_interval (seconds)."
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

    registered = with_store(load_settings(), work)
    echo(f"registered {registered}, registered before {len(lines) - registered}", err=True)


async def _not_registered(store: Store, lines: Sequence[DeviceLine]) -> list[DeviceLine]:
    """Return the lines of devices that are new, each with its network's identifier.

    Raises:
        StartError: a network is unknown, or a device is registered in another.
    """
    default = (await store.networks.default()).identifier
    networks = {"": default, "default": default}
    fresh: list[DeviceLine] = []
    for number, members in lines:
        wanted = members.get("network_identifier", "")
        if wanted not in networks:
            found = await store.networks.find(wanted)
            if found is None:
                raise StartError(f"line {number}: network {wanted!r} not found")
            networks[wanted] = found.identifier
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


def _members(sensor: Sensor) -> dict[str, Any]:
    return {
        "device_id": sensor.device_id,
        "id": sensor.identifier,
        "network_identifier": sensor.network_identifier,
        "name": sensor.name,
        "is_active": sensor.is_active,
        "created_at": time_json(sensor.created_at),
        "last_seen_at": time_json(sensor.last_seen_at),
        "last_measurement_at": time_json(sensor.last_measurement_at),
    }
