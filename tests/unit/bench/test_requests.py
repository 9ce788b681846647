import json

import pytest
from bench.http_load import answer_size
from bench.packets import device_key
from bench.requests import batch, device_id, get, single
from bench.starting_line import LoadError


def body(request: bytes) -> dict:
    head, _, content = request.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(content)}".encode() in head
    return json.loads(content)


def test_a_single_reading_is_flat_and_bears_its_devices_key():
    request = single(7, 1_763_684_625_123)
    assert request.startswith(b"POST /ingest HTTP/1.1\r\n")
    assert f"X-API-Key: {device_key(7)}\r\n".encode() in request
    expected = {"temperature": 21.5, "humidity": 0.43, "pressure": 1013.2}
    assert body(request) == {"timestamp": 1_763_684_625.123, **expected}


def test_a_batch_names_its_devices_in_turn_and_no_reading_twice():
    readings = body(batch(3, 4, 5, 1_763_684_625_000, "key"))["readings"]
    assert [reading["device_id"] for reading in readings] == [
        device_id(number) for number in (2, 3, 1, 2, 3)
    ]
    assert len({reading["timestamp"] for reading in readings}) == 5


def test_a_get_ends_with_an_empty_line():
    assert get("/health", "key").endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"HTTP/1.1 201 Created\r\ncontent-le", None),
        (b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{", 45),
        (b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\nx: y\r\n\r\n{}", 51),
    ],
)
def test_an_answers_size_is_known_once_its_head_is_there(data, size):
    assert answer_size(data) == size


def test_an_answer_without_a_length_is_an_error():
    with pytest.raises(LoadError, match="length"):
        answer_size(b"HTTP/1.1 200 OK\r\n\r\n")
