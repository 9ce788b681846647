"""The log's lines of requests."""

import logging

import pytest
from structlog.testing import capture_logs

from heliograph.http import front as front_module
from heliograph.line_rate import LineRate


@pytest.fixture
def told(monkeypatch):
    """Return the lines of the log, with nothing left out yet."""
    logging.getLogger("heliograph.http.front").setLevel(logging.INFO)
    for name in ("_of_answers", "_of_failures", "_of_routine"):
        monkeypatch.setattr(front_module, name, LineRate())
    with capture_logs() as lines:
        yield lines
    logging.getLogger("heliograph.http.front").setLevel(logging.NOTSET)
