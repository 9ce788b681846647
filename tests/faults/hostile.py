"""Payloads that nobody in his right mind sends, and why each is rejected."""

import time

from heliograph.store import open_store

KEPT = 64 << 10
_DEEP = 500_000
_MIB = 1 << 20
_AHEAD = int(time.time()) + 3 * 86_400


def element(value: bytes) -> bytes:
    return b'{"value":%b}' % value


# Payloads of a measurement, bad as a whole or in their only element.
HOSTILE: dict[str, tuple[bytes, str]] = {
    "NaN": (element(b"NaN"), "NOT_A_NUMBER"),
    "Infinity": (element(b"Infinity"), "NOT_A_NUMBER"),
    "minus Infinity": (element(b"[1,-Infinity]"), "NOT_A_NUMBER"),
    "a lone surrogate": (element(rb'"\ud800"'), "LONE_SURROGATE"),
    "a lone low surrogate in a key": (element(rb'{"\udc00":1}'), "LONE_SURROGATE"),
    "NUL in text": (element(rb'"a\u0000b"'), "NUL_IN_TEXT"),
    "NUL in a key": (element(rb'{"\u0000":1}'), "NUL_IN_TEXT"),
    "duplicate keys": (b'{"value":1,"value":2}', "DUPLICATE_KEY"),
    "a float out of range": (element(b"1e400"), "NUMBER_OUT_OF_RANGE"),
    "an integer out of range": (element(b"18446744073709551616"), "NUMBER_OUT_OF_RANGE"),
    "an endless integer": (element(b"9" * 5_000), "NUMBER_OUT_OF_RANGE"),
    "nesting beyond 32": (element(b"[" * 33 + b"]" * 33), "NESTED_TOO_DEEPLY"),
    "deep objects": (element(b'{"a":' * 40 + b"1" + b"}" * 40), "NESTED_TOO_DEEPLY"),
    "nesting of 500,000": (element(b"[" * _DEEP + b"]" * _DEEP)[:_MIB], "NESTED_TOO_DEEPLY"),
    "nesting of 500,000, open": (b"[" * _DEEP, "NESTED_TOO_DEEPLY MALFORMED_JSON"),
    "a MiB and more": (element(b'"%b"' % (b"x" * _MIB)), "TOO_LARGE"),
    "an unknown member": (b'{"value":1,"vlaue":2}', "UNKNOWN_MEMBER"),
    "three days ahead": (b'{"value":1,"timestamp":%d}' % _AHEAD, "TIMESTAMP_IN_FUTURE"),
    "the year 300,000": (b'{"value":1,"timestamp":9e12}', "TIMESTAMP_IN_FUTURE INVALID_TIMESTAMP"),
    "a timestamp out of range": (
        b'{"value":1,"timestamp":1e308}',
        "TIMESTAMP_IN_FUTURE INVALID_TIMESTAMP",
    ),
    "a text as timestamp": (b'{"value":1,"timestamp":"yesterday"}', "INVALID_TIMESTAMP"),
    "an object as timestamp": (b'{"value":1,"timestamp":{}}', "WRONG_TYPE INVALID_TIMESTAMP"),
    "a text as revision": (b'{"value":1,"revision":"one"}', "WRONG_TYPE"),
    "a huge revision": (b'{"value":1,"revision":99999999999999999999}', "NUMBER_OUT_OF_RANGE"),
    "bad UTF-8": (b'{"value":"\xff\xfe"}', "INVALID_UTF8"),
    "overlong UTF-8": (b'{"value":"\xc0\x80"}', "INVALID_UTF8"),
    "no JSON": (b"\x00\x01\x02\x03", "MALFORMED_JSON NUL_IN_TEXT INVALID_UTF8"),
    "nothing": (b"", "MALFORMED_JSON"),
    "a million keys": (
        element(b"{%b}" % b",".join(b'"%x":1' % n for n in range(120_000)))[:_MIB],
        "TOO_MANY_ATTRIBUTES MALFORMED_JSON",
    ),
    "2,000 keys": (
        element(b"{%b}" % b",".join(b'"%x":1' % n for n in range(2_000))),
        "TOO_MANY_ATTRIBUTES",
    ),
    "cut off": (b'{"measurements":[{"value":{"a":1', "MALFORMED_JSON"),
    "cut off within an escape": (rb'{"value":"\u12', "MALFORMED_JSON"),
    "something behind": (b'{"value":1}}', "MALFORMED_JSON"),
    "a number": (b"42", "WRONG_TYPE MISSING_MEMBER"),
    "null": (b"null", "WRONG_TYPE MISSING_MEMBER"),
    "elements that are none": (b'{"measurements":17}', "WRONG_TYPE"),
    "an element that is none": (b'["one"]', "WRONG_TYPE"),
    "no value": (b'{"timestamp":1700000000}', "MISSING_MEMBER"),
    "a number as id": (b'{"value":1,"id":7}', "WRONG_TYPE"),
    "a long id": (b'{"value":1,"id":"%b"}' % (b"x" * 65), "WRONG_TYPE TOO_LARGE"),
}  # fmt: skip


async def rejected(database):
    """Return (first 64 KiB, reason, source) of what is kept, oldest first."""
    store = await open_store(database.url)
    try:
        rows = await store.rejected.list(limit=1_000)
    finally:
        await store.close()
    return [(row.payload, row.reason, row.source) for row in reversed(rows)]


def check_kept(kept, payload, reasons, what):
    """Check that a payload is among what is kept, for one of the reasons."""
    found = [reason for head, reason, _ in kept if head == payload[:KEPT]]
    assert found, f"{what} is not among the rejected messages"
    assert set(found) <= set(reasons.split()), f"{what}: {found}"
