"""Every error code that an answer, a rejected message or a log line may carry."""

import enum


class ErrorCode(enum.StrEnum):
    """The `code` of an HTTP error."""

    INVALID_API_KEY = "INVALID_API_KEY"
    INVALID_TOKEN = "INVALID_TOKEN"  # noqa: S105 - a code, not a secret
    FORBIDDEN = "FORBIDDEN"
    HOST_NOT_ALLOWED = "HOST_NOT_ALLOWED"
    INVALID_CREDENTIALS = "INVALID_CREDENTIALS"
    SIGNUP_CLOSED = "SIGNUP_CLOSED"
    ALREADY_SET_UP = "ALREADY_SET_UP"
    USERNAME_ALREADY_REGISTERED = "USERNAME_ALREADY_REGISTERED"
    NETWORK_ALREADY_REGISTERED = "NETWORK_ALREADY_REGISTERED"
    USERNAME_CONFUSABLE = "USERNAME_CONFUSABLE"
    NETWORK_NAME_ALREADY_REGISTERED = "NETWORK_NAME_ALREADY_REGISTERED"
    NETWORK_NOT_EMPTY = "NETWORK_NOT_EMPTY"
    LAST_OWNER = "LAST_OWNER"
    USER_NOT_FOUND = "USER_NOT_FOUND"
    MEMBER_NOT_FOUND = "MEMBER_NOT_FOUND"
    NODE_NOT_FOUND = "NODE_NOT_FOUND"
    ALERT_NOT_FOUND = "ALERT_NOT_FOUND"
    ALERT_CLEARED = "ALERT_CLEARED"
    SILENCE_NOT_FOUND = "SILENCE_NOT_FOUND"
    ANNOTATION_NOT_FOUND = "ANNOTATION_NOT_FOUND"
    TOO_MANY_ANNOTATIONS = "TOO_MANY_ANNOTATIONS"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    BOARD_NOT_FOUND = "BOARD_NOT_FOUND"
    TOO_MANY_BOARDS = "TOO_MANY_BOARDS"
    TOO_MANY_SILENCES = "TOO_MANY_SILENCES"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    SENSOR_NOT_FOUND = "SENSOR_NOT_FOUND"
    DEVICE_NOT_FOUND = "DEVICE_NOT_FOUND"
    NETWORK_NOT_FOUND = "NETWORK_NOT_FOUND"
    CONFIGURATION_NOT_FOUND = "CONFIGURATION_NOT_FOUND"
    CHANNEL_NOT_FOUND = "CHANNEL_NOT_FOUND"
    CHANNEL_ALREADY_REGISTERED = "CHANNEL_ALREADY_REGISTERED"
    CHANNEL_NAME_ALREADY_REGISTERED = "CHANNEL_NAME_ALREADY_REGISTERED"
    TOO_MANY_CHANNELS = "TOO_MANY_CHANNELS"
    NO_SECRETS_KEY = "NO_SECRETS_KEY"
    ATTRIBUTE_NOT_FOUND = "ATTRIBUTE_NOT_FOUND"
    MESSAGE_NOT_FOUND = "MESSAGE_NOT_FOUND"
    MESSAGE_NOT_RESUBMITTABLE = "MESSAGE_NOT_RESUBMITTABLE"
    DEVICE_ALREADY_REGISTERED = "DEVICE_ALREADY_REGISTERED"
    SERIAL_NUMBER_ALREADY_REGISTERED = "SERIAL_NUMBER_ALREADY_REGISTERED"
    SENSOR_NAME_ALREADY_REGISTERED = "SENSOR_NAME_ALREADY_REGISTERED"
    SENSOR_ALREADY_REGISTERED = "SENSOR_ALREADY_REGISTERED"
    NODE_ALREADY_REGISTERED = "NODE_ALREADY_REGISTERED"
    NODE_IN_ANOTHER_NETWORK = "NODE_IN_ANOTHER_NETWORK"
    NODE_NOT_EMPTY = "NODE_NOT_EMPTY"
    RULE_NOT_FOUND = "RULE_NOT_FOUND"
    ACTION_NOT_FOUND = "ACTION_NOT_FOUND"
    ACTION_PENDING = "ACTION_PENDING"
    RULE_ALREADY_REGISTERED = "RULE_ALREADY_REGISTERED"
    RULE_NAME_ALREADY_REGISTERED = "RULE_NAME_ALREADY_REGISTERED"
    TOO_MANY_RULES = "TOO_MANY_RULES"
    DEVICE_ID_MISSING = "DEVICE_ID_MISSING"
    DEVICE_INACTIVE = "DEVICE_INACTIVE"
    MALFORMED_JSON = "MALFORMED_JSON"
    VALIDATION_FAILED = "VALIDATION_FAILED"
    INVALID_SETTINGS = "INVALID_SETTINGS"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    RATE_LIMITED = "RATE_LIMITED"
    TOO_MANY_STREAMS = "TOO_MANY_STREAMS"
    QUEUE_FULL = "QUEUE_FULL"
    TOO_MANY_LARGE_ANSWERS = "TOO_MANY_LARGE_ANSWERS"
    DATABASE_UNAVAILABLE = "DATABASE_UNAVAILABLE"
    DISK_BUDGET_USED_UP = "DISK_BUDGET_USED_UP"
    CLOCK_BEHIND = "CLOCK_BEHIND"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class RejectionReason(enum.StrEnum):
    """Why a message, or an element of one, could not be stored as what it claims to be."""

    MALFORMED_JSON = "MALFORMED_JSON"
    INVALID_UTF8 = "INVALID_UTF8"
    NOT_A_NUMBER = "NOT_A_NUMBER"
    LONE_SURROGATE = "LONE_SURROGATE"
    NUL_IN_TEXT = "NUL_IN_TEXT"
    DUPLICATE_KEY = "DUPLICATE_KEY"
    NUMBER_OUT_OF_RANGE = "NUMBER_OUT_OF_RANGE"
    NESTED_TOO_DEEPLY = "NESTED_TOO_DEEPLY"
    TOO_LARGE = "TOO_LARGE"
    TOO_MANY_ATTRIBUTES = "TOO_MANY_ATTRIBUTES"
    UNKNOWN_MEMBER = "UNKNOWN_MEMBER"
    WRONG_TYPE = "WRONG_TYPE"
    MISSING_MEMBER = "MISSING_MEMBER"
    TIMESTAMP_IN_FUTURE = "TIMESTAMP_IN_FUTURE"
    INVALID_TIMESTAMP = "INVALID_TIMESTAMP"
    INVALID_STATUS = "INVALID_STATUS"
    UNKNOWN_SENSOR = "UNKNOWN_SENSOR"
    DEACTIVATED_SENSOR = "DEACTIVATED_SENSOR"
    UNKNOWN_TOPIC = "UNKNOWN_TOPIC"
    FORBIDDEN_TOPIC = "FORBIDDEN_TOPIC"
    NOT_STORABLE = "NOT_STORABLE"


class HeliographError(Exception):
    """An error with a code that is answered to the caller."""

    def __init__(self, code: ErrorCode, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


def shutting_down() -> HeliographError:
    """Return the error for callers who get no answer because the server stops."""
    return HeliographError(ErrorCode.SHUTTING_DOWN, "The server is shutting down", retry_after=5)


class RowError(Exception):
    """The database refuses a row for what it holds; the batch's other rows are not at fault."""


class StoreUnavailableError(Exception):
    """The database did not commit, and the same batch may be written again as it is."""


class ClaimLostError(Exception):
    """Keys of a batch are another server's; nothing of the batch was stored."""

    def __init__(self, keys: frozenset[bytes]) -> None:
        super().__init__(f"{len(keys)} keys are claimed already")
        self.keys = keys


class RolledBackError(StoreUnavailableError):
    """The database was put back to another state than what is to be written is based on."""


class DutyLostError(StoreUnavailableError):
    """Another server has the duty under which this was to be written."""

    def __init__(self, duty: str) -> None:
        super().__init__(f"another server has the duty {duty!r}")


class UnusableStoreError(StoreUnavailableError):
    """The database can't be used until a person does something; `public` says why to anybody.

    `is_damage`: what was read in its file is not what was written there.
    """

    def __init__(self, detail: str, public: str, *, is_damage: bool) -> None:
        super().__init__(detail)
        self.public = public
        self.is_damage = is_damage


class DeliveryError(Exception):
    """Something was not delivered to where it was to go; `is_final`: nor will it be if repeated."""

    def __init__(self, detail: str, *, is_final: bool = False) -> None:
        super().__init__(detail)
        self.is_final = is_final


class AlreadyExistsError(Exception):
    """A unique name is taken; `field` is which."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


class StartError(Exception):
    """The server can't start; the message is one readable line that says what to change."""


class DatabaseAwayError(StartError):
    """The database server does not take connections, maybe not yet."""
