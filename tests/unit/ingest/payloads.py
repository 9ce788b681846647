"""JSON payloads, good and bad, and how a patient reader would judge them."""

import json
import math
import random
import re

from hypothesis import strategies as st

from heliograph.errors import RejectionReason
from heliograph.ingest.decode import decode_batch
from heliograph.model.records import Kind
from heliograph.model.time import DAY, SECOND, from_rfc3339

# 2025-10-09: what every test takes for now.
NOW = 1_760_000_000_000_000
FIRST_ID = 7 << 21
UNTIMED = NOW + 17
SENSOR = 42

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
keys = text | st.sampled_from(["a", "a.b", "a\\b", "", ":", "{", "value", "temperature"])
integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | integers | floats | text | st.sampled_from(["a:b", "{"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


class Seeded(random.Random):
    """Chance that tells how to have it again; drawn one by one, choices would take far longer."""

    def __init__(self, seed):
        super().__init__(seed)
        self._seed = seed

    def __repr__(self):
        return f"Seeded({self._seed})"


randoms = st.integers(0, (1 << 32) - 1).map(Seeded)


class Pairs(list):
    """An object as its members, in order, repeated ones included."""


class Token(str):
    """JSON text that stands as it is."""

    __slots__ = ()


class ProblemError(Exception):
    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


def written(value, random=None):
    """The value's JSON text; `random` scatters white space, key order and escapes."""
    space = (lambda: random.choice(["", "", " ", "\n", "\t \r"])) if random else str
    if isinstance(value, Token):
        return str(value)
    if isinstance(value, Pairs | dict):
        members = list(value.items() if isinstance(value, dict) else value)
        if random:
            random.shuffle(members)
        inside = ",".join(
            f"{space()}{written(key, random)}{space()}:{space()}{written(member, random)}{space()}"
            for key, member in members
        )
        return "{" + (inside or space()) + "}"
    if isinstance(value, list):
        inside = ",".join(f"{space()}{written(item, random)}{space()}" for item in value)
        return "[" + (inside or space()) + "]"
    ascii_only = bool(random and random.random() < 0.5)
    return json.dumps(value, ensure_ascii=ascii_only)


def payload_of(value, random=None):
    return written(value, random).encode("utf-8", "surrogatepass")


# --- elements, good and bad --------------------------------------------------------------

timestamps = st.one_of(
    st.none(),
    st.integers(-5, 1_760_086_400),
    st.floats(-1e3, 1_760_086_400),
    st.integers(10**15, NOW).map(lambda microseconds: microseconds / 1e6),
    st.sampled_from(
        [
            *("2024-02-29T12:00:00Z", "2001-09-09t01:46:39.9+00:00", "2025-01-01T00:00:00.5-11:30"),
            *("1977-08-20T14:29:00Z", "1970-01-01T00:00:07+02:00"),
        ]
    ),
)
good_members = st.fixed_dictionaries(
    {},
    optional={
        "timestamp": timestamps,
        "revision": st.none() | st.integers(0, 2**31 - 1),
        "id": st.none() | st.text("ab:é", min_size=1, max_size=64),
    },
)
BAD_TOKENS = {
    "NaN": RejectionReason.NOT_A_NUMBER,
    "-Infinity": RejectionReason.NOT_A_NUMBER,
    "1e999": RejectionReason.NUMBER_OUT_OF_RANGE,
    "-1E+400": RejectionReason.NUMBER_OUT_OF_RANGE,
    "9223372036854775808": RejectionReason.NUMBER_OUT_OF_RANGE,
    "-9223372036854775809": RejectionReason.NUMBER_OUT_OF_RANGE,
    "1" + "0" * 5000: RejectionReason.NUMBER_OUT_OF_RANGE,
    '"\\ud800"': RejectionReason.LONE_SURROGATE,
    '"\\udc00\\ud800"': RejectionReason.LONE_SURROGATE,
    '"\\udc00x"': RejectionReason.LONE_SURROGATE,
    '"\\uD8FF\\ue000"': RejectionReason.LONE_SURROGATE,
    '"\\udbff\\n"': RejectionReason.LONE_SURROGATE,
    '{"\\udbff\\u0041": 1}': RejectionReason.LONE_SURROGATE,
    '"a\\u0000b"': RejectionReason.NUL_IN_TEXT,
    '{"\\u0000": 1}': RejectionReason.NUL_IN_TEXT,
    '{"a": 1, "a": 1}': RejectionReason.DUPLICATE_KEY,
    '{"a": 1, "\\u0061": 2}': RejectionReason.DUPLICATE_KEY,
    '{"\\u003a": 1, "b": 1, "b": 2}': RejectionReason.DUPLICATE_KEY,
    "1.7976931348623159e308": RejectionReason.NUMBER_OUT_OF_RANGE,
    "[" * 33 + "]" * 33: RejectionReason.NESTED_TOO_DEEPLY,
    "[" * 3000 + "]" * 3000: RejectionReason.NESTED_TOO_DEEPLY,
    '{"a":' * 40 + "1" + "}" * 40: RejectionReason.NESTED_TOO_DEEPLY,
}
FINE_TOKENS = [
    "1.7976931348623158e308", "5e-324",
    "1e-999", "-0", "-0.0", "0e999", "1E5", "1.10", '"\\ud83d\\ude00"', '"\\u003a"', '"\\\\u0000"',
    '"\\/"', '"\\u00e9"', "[" * 32 + "]" * 32, "9223372036854775807", "-9223372036854775808",
    '{"a.b": {"c": [], "d": {}}}', '{"a": {"a": {"a": {"a": {"a": ":"}}}}}', '"\\n\\""',
]  # fmt: skip
tokens = st.sampled_from([*BAD_TOKENS, *FINE_TOKENS]).map(Token)
any_value = values | tokens | st.dictionaries(keys, values | tokens, max_size=3)


# Of an element that holds no `value`: the metrics of a flat one may be called anything else.
held_or_flat = st.one_of(
    values.map(lambda value: [("value", value)]),
    st.dictionaries(keys, values, max_size=3).map(lambda metrics: [("metrics", metrics)]),
    st.dictionaries(keys, values, min_size=1, max_size=3).map(lambda metrics: [*metrics.items()]),
)


@st.composite
def elements(draw):
    """An element of a measurement message, more often good than bad."""
    members = Pairs(draw(good_members).items())
    members += draw(held_or_flat)
    match draw(st.integers(0, 9)):
        case 0:
            members[-1] = ("value", draw(any_value))
        case 1:
            members.append((draw(keys), draw(any_value)))
        case 2:
            members.pop()
        case 3:
            name = draw(
                st.sampled_from(
                    ["timestamp", "revision", "id", "value", "metrics", "device_id", "measurements"]
                )
            )
            members = Pairs(member for member in members if member[0] != name)
            members.append((name, draw(any_value | st.integers())))
        case 4:
            members.append(draw(st.sampled_from(members)))
        case 5:
            return draw(any_value)
    return members


batches = st.lists(elements(), max_size=5)


# --- the patient reader ------------------------------------------------------------------


def naive_measurements(payload):
    """What should become of a message: `(good, bad)`.

    `good` are (index, timestamp, device timestamp, revision, id, value); `bad` maps indexes
    (None: all of it) to reasons.
    """
    try:
        message = json.loads(
            payload.decode("utf-8"),
            object_pairs_hook=Pairs,
            parse_int=Token,
            parse_float=Token,
            parse_constant=Token,
        )
    except RecursionError:
        return _naive_split(payload)
    if isinstance(message, Pairs) and "measurements" in dict(message):
        if len(message) > 1:
            repeated = len(dict(message)) < len(message)
            reason = RejectionReason[("DUPLICATE_KEY" if repeated else "UNKNOWN_MEMBER")]
            return [], {None: reason}
        message = message[0][1]
    elif isinstance(message, Pairs):
        if len(dict(message)) < len(message):
            return [], {None: RejectionReason.DUPLICATE_KEY}
        message = [message]
    good, bad = [], {}
    for index, element in enumerate(message):
        try:
            good.append((index, *_judged(element)))
        except ProblemError as problem:
            bad[index] = problem.reason
    return good, bad


def _naive_split(payload):
    """Too deep for the parser: the tests only make bare arrays with one such element."""
    whole = payload.decode()
    deepest = re.compile(r"\[{3000}\]{3000}")
    shorter, count = deepest.subn("[" * 40 + "]" * 40, whole)
    assert count
    return naive_measurements(shorter.encode())


def _judged(element):
    names = dict(element).keys() if isinstance(element, Pairs) else set()
    is_flat = bool(names) and names.isdisjoint({"value", "metrics"})
    _search(element, 0 if is_flat else -1)
    if not isinstance(element, Pairs):
        raise ProblemError(RejectionReason.WRONG_TYPE)
    members = dict(element)
    frame = {"timestamp", "revision", "id", "device_id"}
    if is_flat:
        identity = _plain(members.get("id"))
        if identity is not None and type(identity) is not str:
            frame.remove("id")
        elif identity is not None and not 1 <= len(identity) <= 64:
            raise ProblemError(RejectionReason.WRONG_TYPE)
        value = {name: _plain(member) for name, member in members.items() if name not in frame}
        if not value:
            raise ProblemError(RejectionReason.MISSING_MEMBER)
        scalar = any(type(member) in {int, float, bool, str} for member in value.values())
        if not scalar or "measurements" in value:
            raise ProblemError(RejectionReason.UNKNOWN_MEMBER)
        members = {"value": value, **{name: members[name] for name in frame & names}}
    elif len(names - frame) > 1:
        raise ProblemError(RejectionReason.UNKNOWN_MEMBER)
    elif not names:
        raise ProblemError(RejectionReason.MISSING_MEMBER)
    timestamp, device_timestamp = _time(_plain(members.get("timestamp")))
    revision = _plain(members.get("revision"))
    if revision is not None:
        if type(revision) is not int:
            raise ProblemError(RejectionReason.WRONG_TYPE)
        if not 0 <= revision < 2**31:
            raise ProblemError(RejectionReason.NUMBER_OUT_OF_RANGE)
    identity = _plain(members.get("id"))
    if identity is not None and (type(identity) is not str or not 1 <= len(identity) <= 64):
        raise ProblemError(RejectionReason.WRONG_TYPE)
    value = members["value"] if "value" in members else members["metrics"]
    value = _plain(value)
    if "value" not in members and type(value) is not dict:
        raise ProblemError(RejectionReason.WRONG_TYPE)
    if "value" not in members and not value:
        raise ProblemError(RejectionReason.MISSING_MEMBER)
    device_id = _plain(members.get("device_id"))
    if device_id is not None and type(device_id) is not str:
        raise ProblemError(RejectionReason.WRONG_TYPE)
    return timestamp, device_timestamp, revision, identity, value


def _time(timestamp):
    if timestamp is None:
        return None, None
    if type(timestamp) is str:
        try:
            moment = from_rfc3339(timestamp)
        except ValueError as error:
            raise ProblemError(RejectionReason.INVALID_TIMESTAMP) from error
        if timestamp[:4] != "1970" and not 0 <= moment < 365 * DAY:
            if timestamp < "1650":
                raise ProblemError(RejectionReason.INVALID_TIMESTAMP)
            return moment, None
        device_timestamp = moment / SECOND
    elif type(timestamp) in {int, float}:
        device_timestamp = float(timestamp)
        moment = round(min(timestamp, 1e12) * SECOND)
    else:
        raise ProblemError(RejectionReason.WRONG_TYPE)
    if device_timestamp < 1_000_000_000:
        return None, device_timestamp
    if moment > NOW + DAY:
        raise ProblemError(RejectionReason.TIMESTAMP_IN_FUTURE)
    return moment, None


def _search(value, depth):
    if isinstance(value, Token):
        if value.strip("-").startswith(("N", "I")):
            raise ProblemError(RejectionReason.NOT_A_NUMBER)
        if not re.fullmatch(r"-?\d+", value):
            beyond = math.isinf(float(value))
        else:
            beyond = len(value) > 30 or not -(2**63) <= int(value) < 2**63
        if beyond:
            raise ProblemError(RejectionReason.NUMBER_OUT_OF_RANGE)
    elif isinstance(value, str):
        if "\0" in value:
            raise ProblemError(RejectionReason.NUL_IN_TEXT)
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ProblemError(RejectionReason.LONE_SURROGATE)
    elif isinstance(value, list):
        is_object = isinstance(value, Pairs)
        if is_object and len(dict(value)) < len(value):
            raise ProblemError(RejectionReason.DUPLICATE_KEY)
        if depth >= 32:
            raise ProblemError(RejectionReason.NESTED_TOO_DEEPLY)
        for item in value:
            if is_object:
                _search(item[0], depth + 1)
                _search(item[1], depth + 1)
            else:
                _search(item, depth + 1)


def _plain(value):
    if isinstance(value, Token):
        return int(value) if re.fullmatch(r"-?\d+", value) else float(value)
    if isinstance(value, Pairs):
        return {key: _plain(member) for key, member in value}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def decode_readings(payload, now):
    """Return the good readings of a batch of readings alone, with their indexes, and its faults."""
    (part,) = decode_batch(payload, now)
    assert (part.name, part.kind) == ("readings", Kind.MEASUREMENT)
    return part.readings, part.faults
