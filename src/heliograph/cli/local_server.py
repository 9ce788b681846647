"""The server on this machine, as its settings tell of it, for commands that call it."""

from heliograph.address import is_loopback
from heliograph.admin_key import SECRET_KEY_FILE
from heliograph.settings import load_settings


def local_admin_key(host: str) -> str | None:
    """Return the admin key of a server on this machine; None where it cannot be known.

    A key of this folder's settings is not sent to a machine somewhere else.
    """
    if not is_loopback(host):
        return None
    settings = load_settings()
    if settings.api_secret_key is not None:
        return settings.api_secret_key.get_secret_value()
    try:
        return (settings.data_directory / SECRET_KEY_FILE).read_text("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def default_url(host: str) -> str:
    """Return where a server's HTTP is, its port that of the settings if it is on this machine."""
    port = load_settings().port if is_loopback(host) else 8000
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
