"""The areas of the log: which part of the server a line is about, and from which level on.

An area is the `type` of its lines. Pure: settings are checked by it without the logging itself.
"""

import functools
from collections.abc import Mapping
from typing import Final

from heliograph.nearest import hint

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
# Of each area the loggers, named as modules are, with all below them.
AREAS: Final[Mapping[str, tuple[str, ...]]] = {
    "lifecycle": (
        "heliograph.server",
        "heliograph.app",
        "heliograph.cli",
        "heliograph.shutdown",
        "heliograph.running_settings",
        "heliograph.siblings",
        "heliograph.heartbeat",
        "heliograph.systemd",
        "heliograph.tls",
        "heliograph.traces",
    ),
    "api": ("heliograph.http", "uvicorn"),
    "sse": (
        "heliograph.live",
        "heliograph.http.streams",
        "heliograph.http.watching",
        "heliograph.http.realtime",
    ),
    "mqtt": ("heliograph.mqtt", "heliograph.brokers", "heliograph.presence"),
    "ingest": ("heliograph.ingest",),
    "processing": ("heliograph.processing",),
    "configuration": ("heliograph.configuration",),
    "access": ("heliograph.access",),
    "database": ("heliograph.store", "alembic", "aiosqlite", "asyncpg"),
    "maintenance": ("heliograph.packer", "heliograph.retention", "heliograph.rollups"),
}
# What else says something: libraries.
OTHER: Final = "other"
# The protocol, which some call the interface by.
OTHER_NAMES: Final[Mapping[str, str]] = {"http": "api"}
_AREA_OF: Final = {logger: area for area, loggers in AREAS.items() for logger in loggers}


@functools.cache
def area_of(logger: str) -> str:
    """Return the area of a logger's lines: that of the nearest one above it."""
    while logger:
        if (area := _AREA_OF.get(logger)) is not None:
            return area
        logger = logger.rpartition(".")[0]
    return OTHER


def parse_level(text: str) -> str:
    """Return an area and its level as `area=level`, in lower case.

    Raises:
        ValueError: it is none.
    """
    area, equals, level = (part.strip() for part in text.lower().partition("="))
    area = OTHER_NAMES.get(area, area)
    if not equals:
        raise ValueError(f"{text[:60]!r} should be like mqtt=debug")
    if area not in AREAS:
        raise ValueError(f"there is no area {area[:60]!r}{hint(area, AREAS)}")
    if level not in LEVELS:
        raise ValueError(f"{area}: should be one of {', '.join(LEVELS)}, not {level[:60]!r}")
    return f"{area}={level}"
