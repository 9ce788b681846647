"""HTTP requests with readings, built before any clock starts."""

import json

from bench.packets import device_key, value

# Of InfluxDB.
DATABASE = "bench"
WRITE = f"/write?db={DATABASE}&precision=ms"


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


def line(sensor: int, millisecond: int, temperature: float) -> str:
    """Return a reading of the three values as InfluxDB's line protocol has it."""
    return (
        f"reading,device_id={device_id(sensor)} "
        f"temperature={temperature:.1f},humidity=0.43,pressure=1013.2 {millisecond}"
    )


def lines(sensors: int, first_reading: int, size: int, first_millisecond: int) -> bytes:
    """Return a POST to InfluxDB of the readings that `batch` has, or that `single` has one of."""
    body = "\n".join(
        line(index % sensors + 1, first_millisecond + index, json.loads(value(0))["temperature"])
        for index in range(first_reading, first_reading + size)
    )
    head = f"POST {WRITE} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()
