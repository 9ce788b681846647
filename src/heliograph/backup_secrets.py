"""The secrets of an installation, encrypted under a passphrase, to lie beside a backup.

A JSON object: `format`, the parameters of `scrypt`, and as `encrypted` a token of Fernet, which
holds the variables and the files of the data folder.
"""

import base64
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from heliograph.admin_key import SECRET_KEY_FILE
from heliograph.errors import StartError
from heliograph.files import replace_file
from heliograph.secrets import KEY_FILE
from heliograph.settings import Settings

SHORTEST_PASSPHRASE = 12
FORMAT = "heliograph-secrets-1"
# As OWASP has it: 128 MiB and some tenths of a second for each guess.
_COST = 1 << 17
_BLOCK = 8
# What a file that somebody has changed may have us spend: 1 GiB.
_GREATEST_COST = 1 << 20
_SALT_BYTES = 16
_FILES = (KEY_FILE, SECRET_KEY_FILE)


class InstallationSecrets(NamedTuple):
    """Variables that hold secrets, and the texts of the data folder's files, by name."""

    variables: dict[str, str]
    files: dict[str, str]


def collect(settings: Settings) -> InstallationSecrets:
    """Return the secrets that the settings and the data folder hold.

    Raises:
        StartError: a file can't be read.
    """
    files: dict[str, str] = {}
    places = [settings.data_directory / name for name in _FILES]
    # As systemd hands it over, it goes before the one in the folder.
    if credentials := os.environ.get("CREDENTIALS_DIRECTORY"):
        places.append(Path(credentials) / KEY_FILE)
    for path in places:
        try:
            files[path.name] = path.read_text("ascii")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a key"
            raise StartError(f"can't read {path}: {reason}") from error
    return InstallationSecrets(settings.secret_texts(), files)


def encrypt(found: InstallationSecrets, passphrase: str) -> bytes:
    """Return a file's content that only the passphrase opens.

    Raises:
        StartError: the passphrase is too short.
    """
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise StartError(f"BACKUP_PASSPHRASE: should have {SHORTEST_PASSPHRASE} characters or more")
    salt = os.urandom(_SALT_BYTES)
    token = _fernet(passphrase, salt, _COST, _BLOCK).encrypt(json.dumps(found._asdict()).encode())
    members = {
        "format": FORMAT,
        "scrypt": {"n": _COST, "r": _BLOCK, "p": 1, "salt": base64.b64encode(salt).decode()},
        "encrypted": token.decode("ascii"),
    }
    return json.dumps(members, indent=2).encode() + b"\n"


def decrypt(content: bytes, passphrase: str) -> InstallationSecrets:
    """Return what `encrypt` was given.

    Raises:
        StartError: it is no such file, or was encrypted under another passphrase.
    """
    from cryptography.fernet import InvalidToken  # noqa: PLC0415 - see _fernet

    try:
        members = json.loads(content)
        if members["format"] != FORMAT:
            raise ValueError  # noqa: TRY301 - told below
        cost, salt = int(members["scrypt"]["n"]), base64.b64decode(members["scrypt"]["salt"])
        block, token = int(members["scrypt"]["r"]), members["encrypted"].encode("ascii")
        if cost > _GREATEST_COST or block != _BLOCK:
            raise ValueError  # noqa: TRY301 - told below
        fernet = _fernet(passphrase, salt, cost, block)
    except (ValueError, TypeError, LookupError, AttributeError):
        raise StartError("this is no file of secrets that heliograph backup has made") from None
    try:
        found: dict[str, dict[str, str]] = json.loads(fernet.decrypt(token))
    except InvalidToken:
        raise StartError(
            "the secrets can't be decrypted: the passphrase is another, or the file is damaged"
        ) from None
    return InstallationSecrets(found["variables"], found["files"])


def _fernet(passphrase: str, salt: bytes, cost: int, block: int) -> Any:
    # 30 ms, for what few commands need.
    from cryptography.fernet import Fernet  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt  # noqa: PLC0415 - see above

    key = Scrypt(salt=salt, length=32, n=cost, r=block, p=1).derive(passphrase.encode())
    return Fernet(base64.urlsafe_b64encode(key))


def put_back(found: InstallationSecrets, folder: Path) -> list[Path]:
    """Write the files into the data folder, and the variables to `secrets.env` there.

    What is there with another content stays: the file goes beside it as NAME.restored. Return the
    paths that were written.

    Raises:
        StartError: one can't be written.
    """
    wanted = {name: found.files[name] for name in _FILES if name in found.files}
    if found.variables:
        lines = (f"{name}={_quoted(text)}\n" for name, text in sorted(found.variables.items()))
        wanted["secrets.env"] = "".join(lines)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        owner = folder.stat()
        for name, text in wanted.items():
            path = folder / name
            if path.exists():
                if path.read_bytes() == text.encode():
                    continue
                path = folder / f"{name}.restored"
            replace_file(path, text.encode(), owner=owner.st_uid, group=owner.st_gid)
            written.append(path)
    except OSError as error:
        raise StartError(f"can't write the secrets to {folder}: {error.strerror}") from error
    return written


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
