"""The admin key that the server makes for itself where none is given."""

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from heliograph.errors import StartError
from heliograph.settings import SHORTEST_PRODUCTION_KEY, Settings

SECRET_KEY_FILE = "api_secret_key"  # noqa: S105 - a file's name, not a secret


def ensure_api_secret_key(settings: Settings) -> tuple[Settings, bool]:
    """Return settings that have an admin key, and whether it was made just now.

    Without API_SECRET_KEY (never so in production) it is the one kept in the data folder,
    readable by the owner only.

    Raises:
        StartError: the data folder cannot be written.
    """
    if settings.api_secret_key is not None:
        return settings, False
    path = settings.data_directory / SECRET_KEY_FILE
    try:
        generated = not path.exists() and _create_key_file(path)
        key = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a key"
        raise StartError(f"API_SECRET_KEY: cannot keep one in {str(path)!r}: {reason}") from error
    if len(key) < SHORTEST_PRODUCTION_KEY:
        raise StartError(f"API_SECRET_KEY: {str(path)!r} holds no usable key; delete the file")
    return settings.model_copy(update={"api_secret_key": SecretStr(key)}), generated


def _create_key_file(path: Path) -> bool:
    """Put a new key at the path, whole or not at all; return whether ours came first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True
