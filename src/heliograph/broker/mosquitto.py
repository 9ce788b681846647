"""What stands in Mosquitto's `password_file` and `acl_file`."""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from heliograph.broker import sections
from heliograph.broker.rules import FIGURES, Rules
from heliograph.model.identifiers import is_uuid

# Of a password that a person may have thought up: as mosquitto_passwd has it.
_ITERATIONS = 101
_MOST_ITERATIONS = 10_000_000

_ACL_SERVER = """\
# The server: everything, and the count of what the broker drops."""
_ACL_DEVICES = """\
# Each device: publishes on its own topics and reads its configuration. %u is the name that it
# logs in with, and has to be the one in its topics."""
_ACL_COMMON = """\
# For all of them, as MQTT_PUBLISH_TOPIC is. Mosquitto warns that there is no %u in it."""


class ServerAccount(NamedTuple):
    """The server's own account; without a password the broker knows it from elsewhere."""

    name: str
    password: str | None = None


def password_file(
    existing: str, devices: Iterable[tuple[str, str]], server: ServerAccount | None = None
) -> str:
    """Return the file with a line of UUID and hash for each device, and one for the server.

    Lines of other names stay as they are; those of UUIDs are ours. No marks set them apart:
    mosquitto_passwd, with which people add their own, takes a file with comments for corrupt.
    """
    lines = [line for line in existing.splitlines() if not is_uuid(line.partition(":")[0])]
    if server is not None and server.password is not None:
        prefix = f"{server.name}:"
        own = [line for line in lines if line.startswith(prefix)]
        if len(own) != 1 or not verifies(own[0].removeprefix(prefix), server.password):
            lines = [line for line in lines if not line.startswith(prefix)]
            lines.append(prefix + hash_password(server.password))
    lines += [f"{name}:{hashed}" for name, hashed in devices]
    return "".join(f"{line}\n" for line in lines)


def acl_file(existing: str, rules: Rules, server: str) -> str:
    """Return the file with our part made of the rules, in which `%u` stands for a device.

    Raises:
        BrokenSectionError: our part of the existing file can't be told from the rest.
    """
    before, _, after = sections.split(existing)
    lines = [
        _ACL_SERVER,
        f"user {server}",
        "topic readwrite #",
        *(f"topic read {topic}" for topic in FIGURES),
        "",
        _ACL_DEVICES,
        *(f"pattern write {topic}" for topic in rules.written),
        *(f"pattern read {topic}" for topic in rules.read),
        _ACL_COMMON,
        *(f"pattern read {topic}" for topic in rules.common),
    ]
    return sections.join(before, lines, after)


def hash_password(password: str) -> str:
    """Return `$7$<iterations>$<salt>$<hash>` of a password."""
    salt = secrets.token_bytes(12)
    hashed = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    encoded = (base64.b64encode(part).decode() for part in (salt, hashed))
    return f"$7${_ITERATIONS}${'$'.join(encoded)}"


def verifies(hashed: str, password: str) -> bool:
    """Tell whether a `$7$` hash is this password's."""
    parts = parse(hashed)
    if parts is None:
        return False
    again = hashlib.pbkdf2_hmac("sha512", password.encode(), parts.salt, parts.iterations)
    return hmac.compare_digest(again, parts.hashed)


class Hash(NamedTuple):
    """The parts of a `$7$` hash: PBKDF2 with SHA-512."""

    iterations: int
    salt: bytes
    hashed: bytes


def parse(hashed: str) -> Hash | None:
    """Return the parts of a `$7$` hash; None: it is something else."""
    parts = hashed.split("$")
    if len(parts) != 5 or parts[:2] != ["", "7"] or not parts[2].isdecimal():
        return None
    iterations = int(parts[2][:9])
    if not 0 < iterations <= _MOST_ITERATIONS:
        return None
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in parts[3:])
    except binascii.Error:
        return None
    return Hash(iterations, salt, digest)
