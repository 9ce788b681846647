"""The keys that devices carry, and the hashes by which the server knows them."""

import hashlib
import re
import secrets

API_KEY_PREFIX = "hg_"
KEY_HASH_BYTES = 32

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


def new_api_key() -> str:
    """Return a fresh device key: `hg_` and 32 random bytes as 43 URL-safe characters."""
    return API_KEY_PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str | bytes) -> bytes:
    """Return the SHA-256 of a key, as text or as it came over the wire.

    A key is 256 random bits, so a slow password hash would add cost and no strength. A lone
    surrogate is hashed as it came: it matches nothing.
    """
    return hashlib.sha256(
        key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    ).digest()


def is_guessable(key: str) -> bool:
    """Tell whether a key is an example's, made of the usual words, or a run of characters."""
    return (
        _PLACEHOLDER.fullmatch(key) is not None
        or len(set(key)) < _FEWEST_CHARACTERS
        or any(key.lower() in run for run in _RUNS)
    )
