"""What a server's refusal is on a terminal: words, not what Python makes of a list."""

import httpx
import pytest

from heliograph.cli.local_server import refusal

PROBLEMS = [
    {"loc": ["query", "limit"], "type": "int_parsing", "msg": "Input should be a valid integer"},
    {"loc": ["body", 0, "device_id"], "type": "missing", "msg": "Field required"},
]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"json": {"detail": "Sensor not found", "code": "SENSOR_NOT_FOUND"}}, "Sensor not found"),
        (
            {"json": {"detail": PROBLEMS, "code": "VALIDATION_FAILED"}},
            "query.limit: Input should be a valid integer; body.0.device_id: Field required",
        ),
        # A proxy's own answers.
        ({"text": "<html>"}, "Unprocessable Entity"),
        ({"json": ["x"]}, "Unprocessable Entity"),
        ({"json": {"detail": [1]}}, "Unprocessable Entity"),
    ],
)
def test_a_refusal_in_one_line(options, line):
    assert refusal(httpx.Response(422, **options)) == line
