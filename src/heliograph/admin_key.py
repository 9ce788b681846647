"""The admin key that the server makes for itself where none is given."""

import secrets

from pydantic import SecretStr

from heliograph.errors import StartError
from heliograph.files import create_private_file
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
        text = secrets.token_urlsafe(32) + "\n"
        generated = not path.exists() and create_private_file(path, text)
        key = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a key"
        raise StartError(f"API_SECRET_KEY: cannot keep one in {str(path)!r}: {reason}") from error
    if len(key) < SHORTEST_PRODUCTION_KEY:
        raise StartError(f"API_SECRET_KEY: {str(path)!r} holds no usable key; delete the file")
    return settings.model_copy(update={"api_secret_key": SecretStr(key)}), generated
