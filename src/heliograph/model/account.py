"""Users: who logs in with a name and a password."""

import hashlib

import msgspec

from heliograph.model.principal import Role

LONGEST_USERNAME = 64
USERNAME_RULE = "1 to 64 printable characters, no / and no white space at its ends"


class Account(msgspec.Struct, frozen=True):
    """A user's account. `created_at` is in microseconds; nobody logs in unless `is_active`."""

    identifier: str
    username: str
    password_hash: str
    is_admin: bool
    created_at: int
    is_active: bool = True


class AccountSession(msgspec.Struct, frozen=True):
    """Whose a token is, and until when, in microseconds."""

    account: Account
    expires_at: int


class OpenSession(msgspec.Struct, frozen=True):
    """A session that an account is logged in by. Times are in microseconds.

    `used_at` may be minutes old; `address` and `user_agent` are those that it was opened from.
    """

    token_hash: bytes
    created_at: int
    expires_at: int
    used_at: int | None
    address: str | None
    user_agent: str | None

    @property
    def identifier(self) -> str:
        """What it is called, which opens nothing."""
        return hashlib.blake2b(self.token_hash, digest_size=16).hexdigest()


class Member(msgspec.Struct, frozen=True):
    """A user's role in a network. `created_at` is in microseconds."""

    username: str
    account: str
    role: Role
    created_at: int


def is_username(text: str) -> bool:
    """Return whether the name may be an account's: it can stand in a path without escapes."""
    return (
        0 < len(text) <= LONGEST_USERNAME
        and text.isprintable()
        and text == text.strip()
        and "/" not in text
        and text not in (".", "..")
    )
