"""Log lines: structlog over the standard library, for people or as JSON, without secrets."""

import logging
import sys
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from heliograph.masking import mask_value
from heliograph.printable import printable, printable_json, printable_lines

_ROUTED = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "asyncio", "alembic")

_as_json = structlog.processors.JSONRenderer(ensure_ascii=False)
_OF_SEVERAL_LINES = {"exception", "stack"}


def configure(
    level: str = "info",
    format: Literal["console", "json"] = "console",  # noqa: A002 - the setting is LOG_FORMAT
    *,
    stream: TextIO | None = None,
) -> None:
    """Send every log line of the process to the stream (standard error).

    May be called again at any time: loggers that are in use follow.
    """
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=_finish(format, colors=stream.isatty())
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _ROUTED:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # It logs every statement with its parameters: keys' hashes, and all that devices say.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _finish(name: str, *, colors: bool) -> list[Processor]:
    """Return the last processors: exceptions as text, secrets masked, then one line.

    Strangers choose what they are called and what they send: only here, where all lines pass, is
    it seen to that nothing of it commands a terminal or begins a line of its own.
    """
    rendering: list[Processor] = (
        [render_json]
        if name == "json"
        else [escape_texts, structlog.dev.ConsoleRenderer(colors=colors)]
    )
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
        mask_secrets,
        *rendering,
    ]


def escape_texts(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Write, as a structlog processor, what is not printable as escapes.

    Tracebacks keep their lines, each further in than any line of the log. Texts within other
    values are shown by `repr`, which does the same.
    """
    return {name: _escaped(name, value) for name, value in event.items()}


def _escaped(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if name in _OF_SEVERAL_LINES:
        return "\n".join(f"  {line}" for line in printable_lines(value).split("\n"))
    return printable(value)


def render_json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """Return, as a structlog processor, the event as JSON, what is not printable as escapes."""
    return printable_json(str(_as_json(logger, method, event)))


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace, as a structlog processor, the values that no log may hold."""
    return {name: mask_value(name, value) for name, value in event.items()}
