"""`heliograph device`: works on the database itself, with or without a running server."""

import uuid
from typing import Any

import typer

from heliograph.cli.database import with_store
from heliograph.cli.output import print_json, print_table, time_json, time_text
from heliograph.errors import AlreadyExistsError, StartError
from heliograph.model.credentials import hash_key, new_api_key
from heliograph.model.identifiers import is_device_id
from heliograph.model.sensor import Sensor
from heliograph.model.time import now
from heliograph.settings import load_settings
from heliograph.store import Store

PAGE = 1_000

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Register devices, list them, renew their keys.",
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
    if not is_device_id(device_id):
        raise typer.BadParameter(
            "1 to 64 of A-Z a-z 0-9 _ - and not a UUID", param_hint="DEVICE_ID"
        )
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
                key_hash=hash_key(key),
                name=name,
                sensor_name=sensor_name,
                serial_number=serial_number,
                manufacturer=manufacturer,
                model=model,
                modality=modality,
                created_at=now(),
            )
        except AlreadyExistsError as error:
            raise StartError(f"{error.field} is already registered") from None

    sensor = with_store(load_settings(), work)
    if json:
        print_json({**_members(sensor), "api_key": key})
    else:
        typer.echo(f"device_id  {device_id}\nid         {sensor.identifier}\napi_key    {key}")
        typer.echo("Keep the key: it is not shown again.", err=True)


@app.command("list")
def list_devices(*, json: bool = Json) -> None:
    """List the devices in the order of their registration."""

    async def work(store: Store) -> list[Sensor]:
        devices: list[Sensor] = []
        while True:
            page, _ = await store.sensors.list(
                network_identifier=None, offset=len(devices), limit=PAGE, only_devices=True
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
        changed = found and await store.sensors.change(found.number, key_hash=hash_key(key))
        if not changed:
            raise StartError(f"device {device_id!r} not found")
        return changed

    sensor = with_store(load_settings(), work)
    if json:
        print_json({"device_id": sensor.device_id, "id": sensor.identifier, "api_key": key})
    else:
        typer.echo(f"device_id  {sensor.device_id or '-'}\napi_key    {key}")
        typer.echo("Keep the key: it is not shown again.", err=True)


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
