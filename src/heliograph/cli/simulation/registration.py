"""Registering the simulated devices over the HTTP API, where they are missing."""

import asyncio

import httpx

from heliograph.cli.local_server import AdminKey
from heliograph.errors import StartError

PAGE = 10_000
AT_ONCE = 8
TIME_OUT_SECONDS = 15.0
MOST_ATTEMPTS = 20


async def register(url: str, admin_key: AdminKey, device_ids: list[str]) -> dict[str, str]:
    """Register those of the devices that are missing; return the new ones' keys.

    Raises:
        StartError: the API is out of reach or refuses.
    """
    async with httpx.AsyncClient(
        base_url=f"{url.rstrip('/')}/api/v1",
        headers={"X-API-Key": admin_key.text},
        event_hooks={"response": [admin_key.check_soon]},
        timeout=TIME_OUT_SECONDS,
    ) as client:
        try:
            known = await _known(client)
            return await _create(client, [name for name in device_ids if name not in known])
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise StartError(f"--url {url}: {error or type(error).__name__}") from error


async def _known(client: httpx.AsyncClient) -> set[str]:
    known: set[str] = set()
    offset = 0
    while True:
        response = await client.get("/devices", params={"limit": PAGE, "offset": offset})
        _check(response)
        devices = response.json()
        known.update(device["device_id"] for device in devices)
        offset += len(devices)
        if len(devices) < PAGE:
            return known


async def _create(client: httpx.AsyncClient, device_ids: list[str]) -> dict[str, str]:
    keys: dict[str, str] = {}
    waiting = iter(device_ids)

    async def work() -> None:
        # One iterator feeds all workers: none is idle and no more than AT_ONCE are under way.
        for device_id in waiting:
            response = await _post(client, device_id)
            if response.status_code != httpx.codes.CONFLICT:
                _check(response)
                keys[device_id] = response.json()["api_key"]

    async with asyncio.TaskGroup() as group:
        for number in range(min(AT_ONCE, len(device_ids))):
            group.create_task(work(), name=f"register-{number}")
    return keys


async def _post(client: httpx.AsyncClient, device_id: str) -> httpx.Response:
    """Post a device; where the server is busy, after the time that it asks for."""
    for _ in range(MOST_ATTEMPTS):
        response = await client.post(
            "/devices",
            json={
                "device_id": device_id,
                "name": f"Simulated sensor {device_id.partition('-')[2]}",
                "manufacturer": "Heliograph",
                "model": "simulate",
                "modality": "weather",
            },
        )
        if response.status_code not in {429, 503}:
            break
        await asyncio.sleep(min(60.0, float(response.headers.get("Retry-After", "1"))))
    return response


def _check(response: httpx.Response) -> None:
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise StartError(f"--url {response.url.host}: the admin key is not accepted")
    if response.is_error:
        raise StartError(f"{response.request.method} {response.url}: {response.status_code}")
