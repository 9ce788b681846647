"""The canonical text of a JSON value, and the fingerprint that tells repeats apart."""

from collections.abc import Callable
from typing import Any

import msgspec
import xxhash

from heliograph.model.records import Kind

_hash = xxhash.xxh3_64_intdigest

_SIGN = 1 << 63
_RANGE = 1 << 64


# Returns the value's one JSON text: sorted keys, no white space, UTF-8. Not wrapped in a
# function, since it runs for every measurement.
canonical: Callable[[Any], bytes] = msgspec.json.Encoder(order="sorted").encode


def signed64(number: int) -> int:
    """Return an unsigned 64-bit integer as the signed one that both databases store."""
    return number - _RANGE if number & _SIGN else number


def fingerprint(kind: Kind, *content: Any) -> int:
    """Return the signed 64-bit hash of a record's kind and all its content, times excluded."""
    return signed64(_hash(canonical((kind.value, *content))))


def measurement_fingerprint(revision: int | None, text: bytes) -> int:
    """Return what `fingerprint(Kind.MEASUREMENT, revision, value)` does, given the value's text."""
    if revision is None:
        number = _hash(b'["measurement",null,' + text + b"]")
    else:
        number = _hash(b'["measurement",%d,%b]' % (revision, text))
    return number - _RANGE if number & _SIGN else number
