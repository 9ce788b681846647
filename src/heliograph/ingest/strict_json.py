"""Reading JSON strictly: what the two databases and a 64-bit world can keep, and nothing else.

msgspec reads quickly, with types that bound depth and integers; `read_vouched` proves that nothing
was glossed over (a repeated key, a NUL). `read_exactly` takes what can't be vouched for: it is the
standard library's parser with hooks, which puts a `Flaw` in the place of whatever may not stand
there, so that one bad element does not spoil its neighbours.
"""

import itertools
import json
import math
import re
from collections.abc import Callable, Collection, Iterable
from typing import Annotated, Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from heliograph.errors import RejectionReason
from heliograph.model.records import MAXIMUM_PAYLOAD_BYTES
from heliograph.nearest import nearest

# Levels of arrays and objects in what is stored; its outermost array or object is the first.
MAXIMUM_DEPTH = 32

_SMALLEST_INTEGER = -(1 << 63)
_LARGEST_INTEGER = (1 << 63) - 1
# A megabyte of `{},{},…` would become hundreds of megabytes of rows.
MAXIMUM_ELEMENTS = 10_000
# Enough to tell what is too deep, and little enough for any parser.
_CUT_DEPTH = 2 * MAXIMUM_DEPTH

Integer: TypeAlias = Annotated[int, msgspec.Meta(ge=_SMALLEST_INTEGER, le=_LARGEST_INTEGER)]
Scalar: TypeAlias = Integer | float | str | bool | None

# Escapes that hide a NUL or a colon need the exact reader; lone surrogates msgspec refuses.
_ESCAPES = re.compile(rb"\\u00(?:00|3[aA])")
BACKSLASH = 0x5C
# Possessive, so that an unterminated text is passed over in linear time.
_TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]++|[\]}]++', re.DOTALL)
_T = TypeVar("_T")
_encode = msgspec.json.Encoder().encode
# Of the members that nobody knows so many are compared with those that there are.
_COMPARED = 8
# How alike names are of which one was meant: what sensors measure has names of its own.
_ALIKE = 0.7
_NOT_A_NUMBER = re.compile(r"[+-]?(?:nan|inf)", re.IGNORECASE)


class Fault(msgspec.Struct, frozen=True, gc=False):
    """Why an element (by its index in the message; None: the whole message) was rejected."""

    index: int | None
    reason: RejectionReason
    detail: str


class Rejected(Exception):  # noqa: N818 - what happened to the message, not an error of ours
    """A message, or an element of one, is not what it claims to be."""

    def __init__(self, reason: RejectionReason, detail: str, index: int | None = None) -> None:
        super().__init__(detail)
        self.plain = Fault(index, reason, detail)

    @property
    def fault(self) -> Fault:
        """What is wrong. To tell what was meant may take time: `plain` does without."""
        return self.plain


class UnknownMemberError(Rejected):
    """An element has members that nobody knows, `unknown`, beside those of `known`."""

    def __init__(self, unknown: Iterable[str], known: Collection[str], otherwise: str = "") -> None:
        self._unknown = [*itertools.islice(unknown, _COMPARED)]
        self._known = known
        detail = f"unknown member {quoted(self._unknown[0])}{otherwise}"
        super().__init__(RejectionReason.UNKNOWN_MEMBER, detail)

    @property
    def fault(self) -> Fault:
        """What is wrong, with the name that was likely meant."""
        for name in self._unknown:
            if meant := nearest(name, self._known, 1, _ALIKE):
                detail = f"unknown member {quoted(name)}: did you mean `{meant[0]}`?"
                return Fault(None, RejectionReason.UNKNOWN_MEMBER, detail)
        return self.plain


class Flaw(NamedTuple):
    """What stands in a parsed value where something was that JSON or we don't allow."""

    reason: RejectionReason
    what: str


def nested(levels: int, *, least: int = 0) -> Any:
    """Return the msgspec type of JSON with at most so many levels of arrays and objects.

    Each object has at least so many members.
    """
    kind: Any = Scalar
    for _ in range(levels):
        kind = Scalar | list[kind] | Annotated[dict[str, kind], msgspec.Meta(min_length=least)]
    return kind


def quoted(text: str) -> str:
    """Return the text's first 40 characters in quotes, printable and safe to store anywhere."""
    return repr(text if len(text) <= 40 else text[:40] + "…")


def has_suspicious_escape(payload: bytes) -> bool:
    """Return whether escapes may hide a NUL or a colon."""
    return BACKSLASH in payload and _ESCAPES.search(payload) is not None


def read_vouched(payload: bytes, decode: Callable[[bytes], _T]) -> _T | None:
    """Return what a decoder of msgspec reads if nothing of the payload was glossed over, else None.

    A repeated key shows as a colon too many: what was read, written again, has one for each member
    that was taken and each that stands in a text.
    """
    try:
        message = decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if has_suspicious_escape(payload):
        return None
    return message if payload.count(b":") == _encode(message).count(b":") else None


def elements_of(message: Any, member: str) -> list[Any]:
    """Return the elements of a parsed message.

    Raises:
        Rejected: it is neither of the shapes.
    """
    if isinstance(message, dict) and member in message:
        for name in message:
            if name != member:
                raise Rejected(
                    RejectionReason.UNKNOWN_MEMBER, f"{quoted(name)} stands beside {member!r}"
                )
        message, place = message[member], f"{member!r}"
    else:
        place = "the message"
    if isinstance(message, Flaw):
        raise Rejected(message.reason, f"{place} {message.what}")
    if isinstance(message, list):
        if len(message) > MAXIMUM_ELEMENTS:
            raise too_many_elements(len(message))
        return message
    if isinstance(message, dict) and place == "the message":
        return [message]
    raise Rejected(RejectionReason.WRONG_TYPE, f"{place} is not an array of objects")


def too_many_elements(count: int) -> Rejected:
    """Return why a message of so many elements is rejected."""
    detail = f"{count} elements are more than {MAXIMUM_ELEMENTS}"
    return Rejected(RejectionReason.TOO_LARGE, detail)


def read_exactly(payload: bytes, maximum: int = MAXIMUM_PAYLOAD_BYTES) -> Any:
    """Return the parsed message with each `Flaw` in its place.

    Raises:
        Rejected: it is too large or not JSON.
    """
    text = _text(payload, maximum)
    try:
        return _parse(text)
    except RecursionError:
        return _parse_deep(text)
    except json.JSONDecodeError as error:
        raise _malformed(text, error) from error


def find_flaw(value: Any, place: str, depth: int) -> Rejected | None:
    """Return the first thing in the value that may not be stored, in the order of the text.

    `place` is the dotted path to the value (empty: it is the element); `depth` counts the
    levels of arrays and objects around it, as far as they count.
    """
    if isinstance(value, str):
        return _find_text_flaw(value, place)
    if isinstance(value, Flaw):
        return Rejected(value.reason, f"{place or 'the element'} {value.what}")
    if not isinstance(value, dict | list):
        return None
    if depth >= MAXIMUM_DEPTH:
        return Rejected(
            RejectionReason.NESTED_TOO_DEEPLY,
            f"{place or 'the element'} is nested more than {MAXIMUM_DEPTH} levels deep",
        )
    if isinstance(value, dict):
        return _find_member_flaw(value, place, depth + 1)
    flaws = (
        find_flaw(item, f"{place}[{index}]"[:200], depth + 1) for index, item in enumerate(value)
    )
    return next(filter(None, flaws), None)


def _find_member_flaw(value: dict[str, Any], place: str, depth: int) -> Rejected | None:
    for key, member in value.items():
        name = key if key.isidentifier() and len(key) <= 40 else quoted(key)
        member_place = f"{place}.{name}"[:200] if place else name
        flaw = _find_text_flaw(key, f"the key {quoted(key)}")
        flaw = flaw or find_flaw(member, member_place, depth)
        if flaw:
            return flaw
    return None


def _find_text_flaw(text: str, place: str) -> Rejected | None:
    if "\0" in text:
        return Rejected(RejectionReason.NUL_IN_TEXT, f"{place} has a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return Rejected(RejectionReason.LONE_SURROGATE, f"{place} has half of a surrogate pair")
    return None


def _text(payload: bytes, maximum: int) -> str:
    if len(payload) > maximum:
        raise Rejected(
            RejectionReason.TOO_LARGE, f"{len(payload)} bytes are more than {maximum} bytes"
        )
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise Rejected(
            RejectionReason.INVALID_UTF8, f"not UTF-8 at byte {error.start}: {error.reason}"
        ) from error
    if text.startswith("\N{BYTE ORDER MARK}"):
        raise Rejected(RejectionReason.MALFORMED_JSON, "starts with a byte order mark")
    if not text or text.isspace():
        raise Rejected(RejectionReason.MALFORMED_JSON, "empty")
    return text


def _malformed(text: str, error: json.JSONDecodeError) -> Rejected:
    if text[error.pos : error.pos + 1] == "\0":
        return Rejected(RejectionReason.NUL_IN_TEXT, f"a NUL byte at character {error.pos}")
    if _NOT_A_NUMBER.match(text, error.pos):
        return Rejected(RejectionReason.NOT_A_NUMBER, f"not a number at character {error.pos}")
    return Rejected(
        RejectionReason.MALFORMED_JSON, f"not JSON at character {error.pos}: {error.msg}"
    )


def _parse_deep(text: str) -> Any:
    """Parse a message that is too deep for the parser, so that only its deep elements suffer."""
    try:
        return _parse(_cut(text))
    except (RecursionError, json.JSONDecodeError) as error:
        raise Rejected(
            RejectionReason.NESTED_TOO_DEEPLY,
            f"nested more than {MAXIMUM_DEPTH} levels deep, and not readable",
        ) from error


def _cut(text: str) -> str:
    """Return the text with a 0 in place of all arrays and objects beyond `_CUT_DEPTH` levels."""
    kept: list[str] = []
    start: int | None = 0
    depth = 0
    for token in _TOKENS.finditer(text):
        first = token[0][0]
        width = token.end() - token.start()
        if first in "[{":
            if start is not None and depth + width > _CUT_DEPTH:
                kept += (text[start : token.start() + _CUT_DEPTH - depth], "0")
                start = None
            depth += width
        elif first in "]}":
            if start is None and depth - width <= _CUT_DEPTH:
                start = token.start() + depth - _CUT_DEPTH
            depth -= width
    if start is not None:
        kept.append(text[start:])
    return "".join(kept)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Flaw:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    seen = set()
    for key, _ in pairs:
        if key in seen:
            break
        seen.add(key)
    return Flaw(RejectionReason.DUPLICATE_KEY, f"has the key {quoted(key)} more than once")


def _integer(literal: str) -> int | Flaw:
    # Python takes quadratic time for long literals, and refuses very long ones.
    if len(literal) <= 20:
        number = int(literal)
        if _SMALLEST_INTEGER <= number <= _LARGEST_INTEGER:
            return number
    return Flaw(RejectionReason.NUMBER_OUT_OF_RANGE, "is an integer beyond 64 bits")


def _float(literal: str) -> float | Flaw:
    number = float(literal)
    if math.isfinite(number):
        return number
    return Flaw(RejectionReason.NUMBER_OUT_OF_RANGE, "is a number beyond a 64-bit float")


def _constant(literal: str) -> Flaw:
    return Flaw(RejectionReason.NOT_A_NUMBER, f"is {literal}")


_parse = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_constant,
).decode
