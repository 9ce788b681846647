"""HTTP requests with readings, built before any clock starts."""

import json

from bench.packets import device_key, value


def device_id(number: int) -> str:
    """Return the device_id of the sensor with this number."""
    return f"bench-{number:06d}"


def get(path: str, key: str) -> bytes:
    """Return a GET of a path."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nX-API-Key: {key}\r\n\r\n".encode()


def post(path: str, key: str, body: str) -> bytes:
    """Return a POST of a JSON body."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nX-API-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def single(sensor: int, millisecond: int) -> bytes:
    """Return a device's POST of one reading of three values."""
    body = f'{{"timestamp": {millisecond / 1_000:.3f}, {value(0)[1:]}'
    return post("/ingest", device_key(sensor), body)


def batch(sensors: int, first_reading: int, size: int, first_millisecond: int, key: str) -> bytes:
    """Return a POST of readings of many devices, by a key that speaks for all of them."""
    readings = [
        {
            "device_id": device_id(index % sensors + 1),
            "timestamp": (first_millisecond + index) / 1_000,
            "metrics": json.loads(value(0)),
        }
        for index in range(first_reading, first_reading + size)
    ]
    return post("/ingest/batch", key, json.dumps({"readings": readings}))
