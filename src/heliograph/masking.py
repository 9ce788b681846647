"""Secrets do not appear in logs or listings; this replaces them."""

import re
from collections.abc import Mapping
from typing import Any

MASK = "********"

_DEEPEST = 8
_SECRET_NAME = re.compile(
    r"(?i)(.*[-_. ])?(password|passwd|secret|token|authorization|cookie|credential|(api)?key)s?"
)
_WORD = re.compile(r"[^\s\"']+")
_URL_USER = re.compile(r"://[^/?#:@]*:")
_IN_TEXT = re.compile(
    r"(?i)(\b(?:bearer|basic) +"
    r"|\bx-api-key['\"]?[:=] *['\"]?"
    r"|[?&](?:ticket|token|key|password|passfile|sslpassword)=)[^\s'\"&,;]+"
)
# A device's key; a session's token, a ticket, and what `openssl rand -hex 32` makes.
_GENERATED = re.compile(
    r"\bhg_[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])|(?<![A-Za-z0-9])[0-9a-f]{64}(?![A-Za-z0-9])"
)


def mask_text(text: str) -> str:
    """Return the text with URLs' passwords, generated keys and sent credentials replaced."""
    if "://" in text and "@" in text:
        text = _WORD.sub(_mask_url, text)
    return _GENERATED.sub(MASK, _IN_TEXT.sub(rf"\1{MASK}", text))


def _mask_url(word: re.Match[str]) -> str:
    """Return a word with the password of a URL in it replaced.

    It reaches up to the last @, since people put unescaped @ and / into passwords: to mask too
    much of an odd text is harmless. Strangers' texts get here, so none is looked at twice.
    """
    text = word[0]
    end = max(text.rfind("@"), 0)
    user = _URL_USER.search(text, 0, end)
    return text if user is None else text[: user.end()] + MASK + text[end:]


def mask_value(name: str, value: Any, depth: int = 0) -> Any:
    """Return what may be shown of the named value: plain JSON types, secrets replaced."""
    is_secret = value is not None and _SECRET_NAME.fullmatch(name) is not None
    if is_secret or depth > _DEEPEST:
        return MASK
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {key: mask_value(str(key), inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [mask_value("", inner, depth + 1) for inner in value]
    return mask_text(str(value))
