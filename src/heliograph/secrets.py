"""Secrets that are kept encrypted: values of settings, and what channels log in with.

The keys are Fernet's, a line each. The first encrypts, each decrypts, so that a new one goes in
front and what is encrypted with the old ones stays readable. They are found in SECRETS_KEY (usually
given as SECRETS_KEY_FILE), else in systemd's credential `secrets_key`, else in the data folder.
"""

import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.errors import StartError
from heliograph.files import create_private_file

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

PREFIX = "enc:"
KEY_FILE = "secrets_key"
MAKE_ONE = "make one with: heliograph secrets key"
_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")


class UndecipherableError(Exception):
    """A text was encrypted with another key, or is damaged."""


class Secrets:
    """Encrypts with the first of its keys, and decrypts with any."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(keys)

    def __repr__(self) -> str:
        """Return how many keys there are, and none of them."""
        return f"{type(self).__name__}({len(self._keys)} keys)"

    def encrypt(self, text: str) -> str:
        """Return the text encrypted, as `enc:…`."""
        return PREFIX + self._fernets()[0].encrypt(text.encode()).decode("ascii")

    def decrypt(self, text: str) -> str:
        """Return what `encrypt` was given.

        Raises:
            UndecipherableError: with none of the keys it was encrypted, or it is damaged.
        """
        from cryptography.fernet import InvalidToken, MultiFernet  # noqa: PLC0415 - see _fernets

        try:
            return MultiFernet(self._fernets()).decrypt(text.removeprefix(PREFIX)).decode()
        except (InvalidToken, ValueError):
            raise UndecipherableError(
                "can't be decrypted: it was encrypted with another key, or is damaged"
            ) from None

    def _fernets(self) -> list["Fernet"]:
        from cryptography.fernet import Fernet  # noqa: PLC0415 - 30 ms, for what few starts need

        return [Fernet(key) for key in self._keys]


def is_encrypted(text: str) -> bool:
    """Return whether a text is one that `Secrets.encrypt` may have made."""
    return text.startswith(PREFIX)


def find_secrets(key: str | None, folder: Path) -> Secrets | None:
    """Return what encrypts with the keys that there are; None: there are none.

    `key` is the text of SECRETS_KEY, `folder` the data folder.

    Raises:
        StartError: keys cannot be read, or are none.
    """
    if key:
        return _parse(key, "SECRETS_KEY")
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    for path in ([Path(credentials) / KEY_FILE] if credentials else []) + [folder / KEY_FILE]:
        try:
            return _parse(path.read_text("ascii"), str(path))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a key"
            raise StartError(f"SECRETS_KEY: cannot read {str(path)!r}: {reason}") from error
    return None


def ensure_secrets(key: str | None, folder: Path, *, is_production: bool) -> Secrets:
    """Return what encrypts; where there is no key, one is made and kept in the data folder.

    Raises:
        StartError: as `find_secrets`; the key cannot be kept; in production, where a key is made
            only when it is asked for, there is none.
    """
    found = find_secrets(key, folder)
    if found is not None:
        return found
    if is_production:
        raise StartError(f"SECRETS_KEY: required with APP_ENV=production to encrypt; {MAKE_ONE}")
    path = folder / KEY_FILE
    try:
        create_private_file(path, new_key() + "\n")
        return _parse(path.read_text("ascii"), str(path))
    except OSError as error:
        reason = error.strerror or error
        raise StartError(f"SECRETS_KEY: cannot keep one in {str(path)!r}: {reason}") from error


def new_key() -> str:
    """Return a key that nothing is encrypted with yet."""
    from cryptography.fernet import Fernet  # noqa: PLC0415 - see Secrets._fernets

    return Fernet.generate_key().decode("ascii")


def add_key(path: Path) -> int:
    """Put a new key in front of those in a file, which is made if need be; return how many it has.

    Raises:
        StartError: the file holds something else, or cannot be written.
    """
    try:
        former = path.read_text("ascii") if path.exists() else ""
        if former.strip():
            _parse(former, str(path))
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        create_private_file(draft, f"{new_key()}\n{former}")
        if former:
            owner = path.stat()
            os.chown(draft, owner.st_uid, owner.st_gid)
        draft.replace(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a key"
        raise StartError(f"{path}: cannot keep a key there: {reason}") from error
    return 1 + len(former.split())


def _parse(text: str, source: str) -> Secrets:
    keys = text.split()
    if not keys or not all(map(_KEY.fullmatch, keys)):
        raise StartError(f"SECRETS_KEY: {source} should hold keys, one a line; {MAKE_ONE}")
    return Secrets(keys)
