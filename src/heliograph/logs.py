"""Log lines: structlog over the standard library, for people or as JSON, without secrets."""

import json
import logging
import sys
from collections.abc import Collection, Sequence
from logging.handlers import RotatingFileHandler
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from heliograph.errors import StartError
from heliograph.line_rate import LineRate
from heliograph.log_areas import AREAS, area_of
from heliograph.masking import MASK, mask_value
from heliograph.printable import printable, printable_json, printable_lines
from heliograph.request_ids import CURRENT
from heliograph.settings import Settings

_ROUTED = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "asyncio", "alembic")

# They log each statement with its parameters (keys' hashes, and all that devices say), and each URL
# that is called, which may be a secret as a whole.
_TALKATIVE = ("aiosqlite", "httpx", "httpcore")

_as_json = structlog.processors.JSONRenderer(ensure_ascii=False)
MOST_KINDS = 1_000
SHORTEST_HIDDEN = 8
_OF_SEVERAL_LINES = {"exception", "stack"}


def configure(
    level: str = "info",
    format: Literal["console", "json"] = "console",  # noqa: A002 - the setting is LOG_FORMAT
    *,
    levels: Sequence[str] = (),
    file: RotatingFileHandler | None = None,
    stream: TextIO | None = None,
    secrets: Collection[str] = (),
) -> None:
    """Send every log line of the process to the stream (standard error), and to the file.

    `levels` are those of single areas, as `log_areas.parse_level` gives them; `secrets` stand in no
    line, wherever they come from. May be called again at any time: loggers that are in use follow,
    and the file of before is closed.
    """
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        add_type,
        add_request_id,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handlers: list[logging.Handler] = [logging.StreamHandler(stream)]
    if file is not None:
        handlers.append(file)
    for handler in handlers:
        colors = handler is not file and stream.isatty()
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=shared,
                processors=[*_finish(format, colors=colors), hiding(secrets)],
            )
        )
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], [Bounded(handlers)]
    for handler in before:
        if isinstance(handler, Bounded):
            handler.close()
    root.setLevel(level.upper())
    _set_levels(dict(each.split("=") for each in levels))
    for name in _ROUTED:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
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


def configure_by(settings: Settings) -> None:
    """Log as the settings have it, from now on.

    Raises:
        StartError: LOG_FILE can't be written; nothing has changed.
    """
    file = None
    if settings.log_file is not None:
        try:
            file = LogFile(
                settings.log_file,
                maxBytes=settings.log_file_size,
                backupCount=settings.log_file_count,
                encoding="utf-8",
            )
        except OSError as error:
            reason = f"can't write {str(settings.log_file)!r}: {error.strerror}"
            raise StartError(f"LOG_FILE: {reason}") from None
    configure(
        settings.log_level,
        settings.log_format,
        levels=settings.log_levels,
        file=file,
        secrets=settings.clear_secrets(),
    )


class Bounded(logging.Handler):
    """Hands lines on; of warnings and errors of one kind not any number: 50 at once, 5 a second.

    Whatever is written for what a client does, it can do thousands of times a second. Kinds are
    told apart by logger and event; of what libraries write, by the first line of its pattern.
    """

    def __init__(self, handlers: Sequence[logging.Handler]) -> None:
        super().__init__()
        self.handlers = handlers
        self._rates: dict[tuple[str, str], LineRate] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on a line, if it is due."""
        if record.levelno < logging.WARNING or self._is_due(record):
            for handler in self.handlers:
                handler.handle(record)

    def _is_due(self, record: logging.LogRecord) -> bool:
        ours: EventDict | None = record.msg if isinstance(record.msg, dict) else None
        event = str(record.msg if ours is None else ours.get("event"))
        kind = record.name, event.partition("\n")[0]
        if kind not in self._rates:
            if len(self._rates) >= MOST_KINDS:
                self._rates.clear()
            self._rates[kind] = LineRate()
        more = self._rates[kind].due()
        if more and ours is not None:
            # A line may tell of others that were left out before they came here.
            left_out = more["not_logged_before"] + ours.get("not_logged_before", 0)
            record.msg = {**ours, "not_logged_before": left_out}
        elif more:
            vars(record).update(more)
        return more is not None

    def close(self) -> None:
        """Close the file, if there is one; the stream is the process's."""
        for handler in self.handlers:
            if isinstance(handler, LogFile):
                handler.close()
        super().close()


class LogFile(RotatingFileHandler):
    """A file that begins anew when it is full, the ones before numbered."""

    # Whether the line before this one, and this one, could not be written.
    _is_failing = _failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, as far as that can be done."""
        self._failed = False
        super().emit(record)
        self._is_failing = self._failed

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - as logging calls it
        """Tell once that the disk is full, say: the lines stand on standard error all the same."""
        self._failed = True
        if not self._is_failing:
            reason = sys.exc_info()[1]
            sys.stderr.write(f"{self.baseFilename} can't be written: {reason}\n")


def _set_levels(levels: dict[str, str]) -> None:
    """Have areas begin at their own level, and all others at that of the whole."""
    for area, names in AREAS.items():
        for name in names:
            # uvicorn's own are those of DEBUG and --access-log.
            if name.startswith("heliograph."):
                logger, level = logging.getLogger(name), levels.get(area, "NOTSET").upper()
                # To set it makes every logger of the process forget what it knows.
                if logging.getLevelName(logger.level) != level:
                    logger.setLevel(level)


def add_type(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Say, as a structlog processor, which area of the server a line is about."""
    event["type"] = area_of(str(event.get("logger", "")))
    return event


def add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Say, as a structlog processor, for which request a line is written, if for one."""
    identify = CURRENT.get()
    if identify is not None:
        event.setdefault("request_id", identify())
    return event


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


def hiding(secrets: Collection[str]) -> Processor:
    """Return what replaces these in a line, as a structlog processor.

    A stranger may have a secret of ours where no name tells it: as an MQTT user name, in a path.
    What is shorter than SHORTEST_HIDDEN is part of other words.
    """
    shown = {form(text) for text in secrets for form in (str, printable, _quoted, _in_json)}
    texts = sorted((text for text in shown if len(text) >= SHORTEST_HIDDEN), key=len, reverse=True)

    def hide(_logger: WrappedLogger, _method: str, line: Any) -> str:
        for text in texts:
            line = line.replace(text, MASK)
        return str(line)

    return hide


def _quoted(text: str) -> str:
    return repr(printable(text))[1:-1]


def _in_json(text: str) -> str:
    return printable_json(json.dumps(text, ensure_ascii=False)[1:-1])


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace, as a structlog processor, the values that no log may hold."""
    return {name: mask_value(name, value) for name, value in event.items()}
