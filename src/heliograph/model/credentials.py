"""Keys, tokens and passwords: how they are made and hashed, and what makes them easy to guess."""

import base64
import functools
import hashlib
import hmac
import re
import runpy
import secrets
from typing import Final, TypedDict

from heliograph.model.lookalikes import looks

API_KEY_PREFIX = "hg_"
_API_KEY = re.compile(API_KEY_PREFIX + "[A-Za-z0-9_-]{43}")
# A key, a session's token, or a ticket: a token and the hash of its session's.
_RANDOM = re.compile(_API_KEY.pattern.encode() + rb"|[0-9a-f]{64}(\.[0-9a-f]{64})?")
# Of a broker's password: a key is 256 random bits, which more iterations make no stronger, and
# the broker computes them for each connection, at every reload for all of them.
BROKER_ITERATIONS = 1
_BROKER_SALT_BYTES = 12
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 256

_PLACEHOLDER = re.compile(
    r"(?i).*(change[-_ ]?(me|this|it)|replace[-_ ]?(me|this)|your[-_ ]?(own|api|secret|key|admin)"
    r"|min-16-chars|strong-random|example|insecure|dummy|placeholder).*|<.*>"
    r"|(my|the|api|app|admin|device|dev|super|top|very|secret|key|password|test|demo|default"
    r"|heliograph|token|strong|random|long|local|production|development|[-_.\d])+"
)
_RUNS = (
    "abcdefghijklmnopqrstuvwxyz0123456789" * 2,
    "0123456789abcdef" * 4,
    "qwertyuiopasdfghjklzxcvbnm1234567890" * 2,
)
_FEWEST_CHARACTERS = 6

# What zxcvbn, which brings the list, estimates besides is not asked for: only what can be told
# plainly is refused.
_WORD_LISTS_PACKAGE, _WORD_LISTS = "zxcvbn", "zxcvbn/frequency_lists.py"
_PROGRAM = "heliograph"

# Nobody may sign up in production as who would be taken for the server's administrator.
_RESERVED = ("admin", "administrator", "root")


def new_api_key() -> str:
    """Return a fresh device key: `hg_` and 32 random bytes as 43 URL-safe characters."""
    return API_KEY_PREFIX + secrets.token_urlsafe(32)


def setup_code(admin_key_hash: bytes) -> str:
    """Return the code that makes the first administrator: `xxxx-xxxx-xxxx`, 60 bits.

    It is made of the admin key, so that all processes of a server know the same one.
    """
    digest = hmac.digest(admin_key_hash, b"setup code", "sha256")
    text = base64.b32encode(digest)[:12].decode().lower()
    return "-".join(text[at : at + 4] for at in (0, 4, 8))


def is_api_key(text: str) -> bool:
    """Return whether the text has the form of a device's key."""
    return _API_KEY.fullmatch(text) is not None


def is_random(secret: bytes) -> bool:
    """Return whether a secret has the form of the server's own keys and tokens."""
    return _RANDOM.fullmatch(secret) is not None


def new_token() -> str:
    """Return a fresh token of a session or a ticket: 32 random bytes in hexadecimal."""
    return secrets.token_hex(32)


def hash_key(key: str | bytes) -> bytes:
    """Return the SHA-256 of a key, as text or as it came over the wire.

    A key is 256 random bits, so a slow password hash would add cost and no strength. A lone
    surrogate is hashed as it came: it matches nothing.
    """
    return hashlib.sha256(
        key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    ).digest()


def shared_key_hash(hashed: bytes) -> bytes:
    """Return what the own device of a shared key is found by, from the key's hash.

    It is longer than any hash, so that it is no device key's: a shared key that is taken out of
    DEVICE_API_KEYS opens nothing.
    """
    return b"shared" + hashed


def broker_password(key: str) -> str:
    """Return what a broker may know of a key: Mosquitto's `$7$<iterations>$<salt>$<hash>`.

    PBKDF2 with SHA-512, salt and hash in base64; the dynamic-security plugin keeps the same
    three in members of their own.
    """
    salt = secrets.token_bytes(_BROKER_SALT_BYTES)
    hashed = hashlib.pbkdf2_hmac("sha512", key.encode(), salt, BROKER_ITERATIONS)
    return f"$7${BROKER_ITERATIONS}${_base64(salt)}${_base64(hashed)}"


class KeyMembers(TypedDict):
    """The members of a sensor's record that a new key gives it."""

    key_hash: bytes
    broker_password: str


def key_members(key: str) -> KeyMembers:
    """Return what is stored of a key."""
    return {"key_hash": hash_key(key), "broker_password": broker_password(key)}


# What is stored of a key that has ended.
NO_KEY: Final = {"key_hash": None, "broker_password": None}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def is_guessable(key: str) -> bool:
    """Return whether a key is an example's, made of the usual words, or a run of characters."""
    return (
        _PLACEHOLDER.fullmatch(key) is not None
        or len(set(key)) < _FEWEST_CHARACTERS
        or any(key.lower() in run for run in _RUNS)
    )


@functools.cache
def _commonest() -> frozenset[str]:
    # Run for itself: imported, all its lists would stay in memory, 14 MiB instead of 3.
    from importlib import metadata  # noqa: PLC0415 - 20 ms, which most commands need not take

    path = metadata.distribution(_WORD_LISTS_PACKAGE).locate_file(_WORD_LISTS)
    lists: dict[str, list[str]] = runpy.run_path(str(path))["FREQUENCY_LISTS"]
    return frozenset(lists["passwords"])


def weakness(password: str, username: str) -> str | None:
    """Return what makes the password easy to guess; None: nothing that is known.

    The first call takes a tenth of a second.
    """
    folded = password.casefold()
    if folded == _PROGRAM:
        return "is the program's name"
    if folded == username.casefold():
        return "is the user name"
    return "is one of the commonest passwords" if folded in _commonest() else None


def looks_reserved(username: str) -> bool:
    """Return whether the name looks like an administrator's, `Admin` say."""
    own = looks(username)
    return any(own & looks(name) for name in _RESERVED)
