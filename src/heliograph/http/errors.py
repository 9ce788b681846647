"""Errors as answers: `{"detail": …, "code": …}`, whatever went wrong."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from heliograph.errors import ErrorCode, HeliographError, RejectionReason, StoreUnavailableError
from heliograph.http.answers import Answer, encode
from heliograph.http.records import ErrorAnswer, Problem
from heliograph.ingest.strict_json import Fault

log = structlog.get_logger()

_CODES = {
    400: "SERIAL_NUMBER_ALREADY_REGISTERED MALFORMED_JSON INVALID_SETTINGS",
    401: "INVALID_API_KEY INVALID_TOKEN INVALID_CREDENTIALS",
    403: "FORBIDDEN HOST_NOT_ALLOWED SIGNUP_CLOSED DEVICE_INACTIVE",
    404: (
        "USER_NOT_FOUND MEMBER_NOT_FOUND NODE_NOT_FOUND NOT_FOUND SENSOR_NOT_FOUND"
        " ALERT_NOT_FOUND SILENCE_NOT_FOUND BOARD_NOT_FOUND ANNOTATION_NOT_FOUND SESSION_NOT_FOUND"
        " DEVICE_NOT_FOUND NETWORK_NOT_FOUND CONFIGURATION_NOT_FOUND ATTRIBUTE_NOT_FOUND"
        " RULE_NOT_FOUND ACTION_NOT_FOUND CHANNEL_NOT_FOUND MESSAGE_NOT_FOUND"
    ),
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    409: (
        "USERNAME_ALREADY_REGISTERED USERNAME_CONFUSABLE ALREADY_SET_UP NETWORK_ALREADY_REGISTERED"
        " NETWORK_NAME_ALREADY_REGISTERED NETWORK_NOT_EMPTY LAST_OWNER"
        " DEVICE_ALREADY_REGISTERED SENSOR_NAME_ALREADY_REGISTERED"
        " SENSOR_ALREADY_REGISTERED NODE_ALREADY_REGISTERED NODE_IN_ANOTHER_NETWORK"
        " NODE_NOT_EMPTY RULE_ALREADY_REGISTERED RULE_NAME_ALREADY_REGISTERED TOO_MANY_RULES"
        " CHANNEL_ALREADY_REGISTERED CHANNEL_NAME_ALREADY_REGISTERED TOO_MANY_CHANNELS"
        " ACTION_PENDING"
        " MESSAGE_NOT_RESUBMITTABLE"
        " ALERT_CLEARED TOO_MANY_SILENCES TOO_MANY_BOARDS TOO_MANY_ANNOTATIONS"
    ),
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "VALIDATION_FAILED DEVICE_ID_MISSING IDEMPOTENCY_KEY_REUSED",
    429: "RATE_LIMITED TOO_MANY_STREAMS",
    500: "INTERNAL_ERROR",
    503: (
        "QUEUE_FULL TOO_MANY_LARGE_ANSWERS DATABASE_UNAVAILABLE DISK_BUDGET_USED_UP"
        " CLOCK_BEHIND SHUTTING_DOWN NO_SECRETS_KEY"
    ),
}
STATUS = {ErrorCode(name): status for status, names in _CODES.items() for name in names.split()}
DEFECT = HeliographError(ErrorCode.INTERNAL_ERROR, "Internal server error")
REJECTION_STATUS = {
    RejectionReason.MALFORMED_JSON: 400,
    RejectionReason.INVALID_UTF8: 400,
    RejectionReason.TOO_LARGE: 413,
    RejectionReason.DEACTIVATED_SENSOR: 403,
    RejectionReason.UNKNOWN_SENSOR: 404,
}
CODE_OF_STATUS = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
}
CHALLENGES = {
    ErrorCode.INVALID_CREDENTIALS: b'Bearer realm="heliograph"',
    ErrorCode.INVALID_API_KEY: b'ApiKey realm="heliograph"',
    ErrorCode.INVALID_TOKEN: b'Bearer realm="heliograph", error="invalid_token"',
}
_DETAILS = {
    ErrorCode.NOT_FOUND: "Route not found",
    ErrorCode.METHOD_NOT_ALLOWED: "Method not allowed",
}
RETRY_AFTER_SECONDS = 2
OUTAGE_SECONDS = 60.0


MALFORMED = HeliographError(ErrorCode.MALFORMED_JSON, "The body is not valid JSON")


def answer(error: HeliographError) -> Answer:
    """Return the error as an answer."""
    code, status = error.code, STATUS[error.code]
    headers: list[tuple[bytes, bytes]] = []
    if challenge := CHALLENGES.get(code):
        headers.append((b"www-authenticate", challenge))
    if status in (429, 503):
        headers.append((b"retry-after", b"%d" % (error.retry_after or RETRY_AFTER_SECONDS)))
    if status == 408:
        headers.append((b"connection", b"close"))
    return Answer(status, encode(ErrorAnswer(error.detail, code.value)), headers)


def rejection(fault: Fault, *, invalid: int = 422) -> Answer:
    """Return the answer to a message that is rejected whole; `invalid`: for what it says."""
    status = REJECTION_STATUS.get(fault.reason, invalid)
    return Answer(status, encode(ErrorAnswer(fault.detail, fault.reason.value)))


def unavailable() -> HeliographError:
    """Return the error for callers while the database is unavailable."""
    return HeliographError(
        ErrorCode.DATABASE_UNAVAILABLE,
        "The database is not available",
        retry_after=RETRY_AFTER_SECONDS,
    )


class Outage:
    """Logs at most once a minute that requests fail for want of the database, and how many.

    Each has its 503, and its place in `/metrics`; a line for each would fill the log.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at: float | None = None
        self._requests = 0

    def count(self, error: Exception) -> None:
        """Count a request that has failed; `requests` are those since the line before."""
        self._requests += 1
        moment = self._clock()
        if self._logged_at is None or moment - self._logged_at >= OUTAGE_SECONDS:
            log.warning("database unavailable", reason=str(error), requests=self._requests)
            self._logged_at, self._requests = moment, 0


_outage = Outage()


def answer_to(error: Exception, invalid_status: int = 422) -> Answer | None:
    """Return the answer to a request that has failed by this; None: it is a defect.

    `invalid_status` is that of a request in which something is wrong.
    """
    if isinstance(error, StoreUnavailableError):
        _outage.count(error)
        error = unavailable()
    elif isinstance(error, HTTPException) and isinstance(error.__cause__, HeliographError):
        # FastAPI takes whatever is raised while it reads a body for broken JSON.
        error = error.__cause__
    if isinstance(error, HeliographError):
        return answer(error)
    if isinstance(error, RequestValidationError):
        found = error.errors()
        malformed = any(each["type"] == "json_invalid" for each in found)
        return answer(MALFORMED) if malformed else invalid(found, status=invalid_status)
    return _http_answer(error) if isinstance(error, HTTPException) else None


def _http_answer(error: HTTPException) -> Answer:
    if error.status_code == 400:
        # The one that FastAPI raises itself: a body that json.loads refuses to look at.
        return answer(MALFORMED)
    code = CODE_OF_STATUS.get(error.status_code, ErrorCode.VALIDATION_FAILED)
    detail = _DETAILS.get(code, error.detail)
    given = error.headers or {}
    headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    return Answer(error.status_code, encode(ErrorAnswer(detail, code.value)), headers)


def validation_error(location: Sequence[str | int], kind: str, message: str) -> Exception:
    """Return an error that is answered like one that FastAPI finds in a request."""
    return RequestValidationError([{"loc": location, "type": kind, "msg": message}])


def install(app: FastAPI) -> None:
    """Have the application answer no error itself, but raise each to the front."""
    for kind in (HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _raise)


async def _raise(_request: Request, error: Exception) -> Response:
    raise error


def invalid(problems: Sequence[Mapping[str, Any]], *, status: int = 422) -> Answer:
    """Return the answer to a request with these problems: `loc`, `type` and `msg` of each."""
    detail = [
        Problem(
            [_printable(part) for part in problem["loc"]],
            problem["type"],
            _printable(_message(problem)),
        )
        for problem in problems
    ]
    return Answer(status, encode(ErrorAnswer(detail, ErrorCode.VALIDATION_FAILED.value)))


# Where pydantic speaks of Python's types, or of its own parsers: in JSON's words.
_IN_OTHER_WORDS = {
    "bool_parsing": "Input should be true or false",
    "bool_type": "Input should be true or false",
    "dict_type": "Input should be an object",
    "float_parsing": "Input should be a number",
    "float_type": "Input should be a number",
    "int_from_float": "Input should be a whole number",
    "int_parsing": "Input should be a whole number",
    "int_type": "Input should be a whole number",
    "int_parsing_size": "Input should be a whole number of fewer digits",
    "list_type": "Input should be an array",
    "model_attributes_type": "Input should be an object",
    "model_type": "Input should be an object",
    "uuid_parsing": "Input should be a UUID",
    "uuid_type": "Input should be a UUID",
}
_LENGTHS = {"too_long": ("at most", "max_length"), "too_short": ("at least", "min_length")}


def _message(problem: Mapping[str, Any]) -> Any:
    """Return what is wrong with the request, in its sender's terms."""
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "value_error" and "error" in context:
        # Pydantic's own message names Python's exception first.
        return str(context["error"])
    if kind in _LENGTHS and context:
        return _of_another_length(problem.get("input"), *_LENGTHS[kind], context)
    return _IN_OTHER_WORDS.get(kind, problem["msg"])


def _of_another_length(given: Any, bound: str, bounded: str, context: Mapping[str, Any]) -> str:
    length = context[bounded]
    what, unit = ("text", "character") if isinstance(given, str) else ("an array", "element")
    if isinstance(given, str) and not given:
        return "Input should not be empty"
    plural = "" if length == 1 else "s"
    return (
        f"Input should be {what} of {bound} {length} {unit}{plural},"
        f" not of {context['actual_length']}"
    )


def _printable(part: Any) -> Any:
    # A lone surrogate from the request's own text can't be encoded again.
    return part.encode("utf-8", "replace").decode() if isinstance(part, str) else part
