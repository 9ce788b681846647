"""Mosquitto's password and ACL files, which are kept as the registry has it.

change of the registry ─▶ wait a moment ─▶ read all devices ─▶ replace files ─▶ SIGHUP

The texts are made by pure functions; a file is replaced whole, never by half of one.
"""

import asyncio
import base64
import binascii
import dataclasses
import hashlib
import hmac
import os
import secrets
import signal
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import structlog

from heliograph.brokers.rules import FIGURES, AccessRules, ServerAccount
from heliograph.errors import StoreUnavailableError
from heliograph.files import replace_file
from heliograph.model.identifiers import is_uuid
from heliograph.store.brokers import BrokerAccess

log = structlog.get_logger()

# Changes that come together are written together.
COALESCE_SECONDS = 0.2
# Between two rewrites: so long, and so many times as long as the last one took.
REST_SECONDS = 1.0
REST_FACTOR = 10.0
RETRY_SECONDS = 5.0

# The part of the ACL file that is ours stands between these; what others wrote stays as it is.
BEGIN = "# ---- heliograph: written by it, changed by it; other lines belong outside of this"
END = "# ---- heliograph: end"
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

# Of a file that did not exist: for us, and the group of its folder.
_NEW_MODE = 0o640
_LONGEST_PID_FILE = 64


class FilesError(Exception):
    """The files could not be updated, or Mosquitto not signalled; one line says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class MosquittoPaths:
    """Mosquitto's files; None: that one is not ours to write, and nobody is signalled."""

    passwords: Path | None
    acl: Path | None
    pid: Path | None


class Rewrite(NamedTuple):
    """What a rewrite came to. `unknown` are devices whose key is too old to be known to us."""

    changed: bool
    devices: int
    unknown: tuple[str, ...]


class MosquittoFiles:
    """Mosquitto's files, written from the registry."""

    def __init__(
        self, access: BrokerAccess, paths: MosquittoPaths, rules: AccessRules, server: ServerAccount
    ) -> None:
        self._access = access
        self._paths = paths
        self._rules = rules
        self._server = server
        self._changed = asyncio.Event()
        self._changed.set()
        # What was written and Mosquitto does not know yet.
        self._unread = False
        self._problem: str | None = None
        self._unknown: tuple[str, ...] = ()

    @property
    def problem(self) -> str | None:
        """Why Mosquitto may not have the newest state; None: it has it."""
        return self._problem

    def wake(self) -> None:
        """Look at the registry again: it has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Keep the files as the registry has it, for ever."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(COALESCE_SECONDS)
            self._changed.clear()
            started = time.monotonic()
            try:
                self._report(await self.update())
            except (FilesError, StoreUnavailableError) as error:
                self._note_problem(str(error))
                self._changed.set()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                took = time.monotonic() - started
                await asyncio.sleep(max(REST_SECONDS, REST_FACTOR * took))

    async def update(self) -> Rewrite:
        """Write what differs, and have Mosquitto read it.

        Raises:
            FilesError: a file can't be written, or Mosquitto can't be signalled.
            StoreUnavailableError: the devices are not known at this moment.
        """
        known: list[tuple[str, str]] = []
        unknown: list[str] = []
        async for device in self._access.devices():
            if not device.is_active:
                continue
            if device.password is None:
                unknown.append(device.device_id or device.identifier)
            else:
                known.append((device.identifier, device.password))
        changed = await asyncio.to_thread(self._write, known)
        return Rewrite(changed, len(known), tuple(unknown))

    def _write(self, devices: list[tuple[str, str]]) -> bool:
        changed = self._replace(
            self._paths.acl, lambda text: acl_file(text, self._rules, self._server.name)
        )
        # Rules that nobody has a password for yet let nobody in; the other way round they would.
        changed |= self._replace(
            self._paths.passwords, lambda text: password_file(text, devices, self._server)
        )
        if self._unread and self._paths.pid is not None:
            try:
                reload_broker(self._paths.pid)
            except ReloadError as error:
                raise FilesError(f"Mosquitto is not told to read its files: {error}") from None
        self._unread = False
        return changed

    def _replace(self, path: Path | None, text_of: Callable[[str], str]) -> bool:
        """Write a file anew from what it says, and return whether it differs."""
        if path is None:
            return False
        try:
            changed = replace_text(path, text_of(read_text(path)))
        except OSError as error:
            raise FilesError(f"can't write {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise FilesError(f"{path} is not UTF-8 text") from None
        except BrokenSectionError as error:
            raise FilesError(f"{path}: {error}") from None
        self._unread |= changed
        return changed

    def _report(self, written: Rewrite) -> None:
        if self._problem is not None:
            log.info("Mosquitto's files up to date")
        self._problem = None
        if written.changed:
            log.info("Mosquitto's files written", devices=written.devices)
        if written.unknown != self._unknown:
            self._unknown = written.unknown
            if written.unknown:
                log.warning(
                    "devices without a password at Mosquitto: new keys needed",
                    count=len(written.unknown),
                    first=written.unknown[0],
                )

    def _note_problem(self, problem: str) -> None:
        if problem != self._problem:
            log.error("Mosquitto's files out of date", reason=problem)
        self._problem = problem


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


def acl_file(existing: str, rules: AccessRules, server: str) -> str:
    """Return the file with our part made of the rules, in which `%u` stands for a device.

    Raises:
        BrokenSectionError: our part of the existing file can't be distinguished from the rest.
    """
    before, _, after = split_section(existing)
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
    return join_section(before, lines, after)


def hash_password(password: str) -> str:
    """Return `$7$<iterations>$<salt>$<hash>` of a password."""
    salt = secrets.token_bytes(12)
    hashed = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    encoded = (base64.b64encode(part).decode() for part in (salt, hashed))
    return f"$7${_ITERATIONS}${'$'.join(encoded)}"


def verifies(hashed: str, password: str) -> bool:
    """Return whether a `$7$` hash is this password's."""
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


class BrokenSectionError(ValueError):
    """A file has one of the marks without the other, or twice: nobody knows what is whose."""


def split_section(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return the lines before our part, those of it, and those after it.

    Raises:
        BrokenSectionError: the marks don't fit together.
    """
    lines = text.splitlines()
    begins = [at for at, line in enumerate(lines) if line == BEGIN]
    ends = [at for at, line in enumerate(lines) if line == END]
    if not begins and not ends:
        return lines, [], []
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise BrokenSectionError("the lines that mark Heliograph's part don't fit together")
    first, last = begins[0], ends[0]
    return lines[:first], lines[first + 1 : last], lines[last + 1 :]


def join_section(before: list[str], own: list[str], after: list[str]) -> str:
    """Return the text of a file with our part in its place."""
    return "\n".join([*before, BEGIN, *own, END, *after, ""])


class ReloadError(Exception):
    """The broker can't be made to reload its files; one line says why."""


def read_text(path: Path) -> str:
    """Return the file's text; an empty one if there is no file.

    Raises:
        OSError, UnicodeDecodeError: it can't be read.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""


def replace_text(path: Path, text: str) -> bool:
    """Put a file with this text in the path's place, and return whether it differs.

    A file keeps its mode, and its owner and group as far as we may set them; a new one belongs
    to the group of its folder, which may read it.

    Raises:
        OSError: it can't be; what was there is still there.
    """
    path = path.resolve()
    data = text.encode()
    try:
        if path.read_bytes() == data:
            return False
        known = path.stat()
        mode, owner, group = stat.S_IMODE(known.st_mode), known.st_uid, known.st_gid
    except FileNotFoundError:
        mode, owner, group = _NEW_MODE, -1, path.parent.stat().st_gid
    replace_file(path, data, mode=mode, owner=owner, group=group)
    return True


def reload_broker(pid_file: Path, program: str = "mosquitto") -> None:
    """Have the program of the PID file read its files again: SIGHUP.

    Raises:
        ReloadError: there is none, it is another program, or we may not.
    """
    try:
        with pid_file.open("rb") as file:
            text = file.read(_LONGEST_PID_FILE).strip()
    except OSError as error:
        raise ReloadError(f"can't read {pid_file}: {error.strerror}") from None
    if not text.isdigit() or int(text) < 2:
        raise ReloadError(f"{pid_file} holds no process id")
    process = int(text)
    # SIGHUP ends a program that does not expect it. The file may be older than the process, and
    # Mosquitto writes it before it expects signals.
    found, expects = _signal_state(process)
    if found is not None and found != program:
        raise ReloadError(f"{pid_file}: process {process} is {found}, not {program}")
    if not expects:
        raise ReloadError(f"process {process} is not ready for it yet")
    try:
        os.kill(process, signal.SIGHUP)
    except ProcessLookupError:
        raise ReloadError(f"{pid_file}: there is no process {process}") from None
    except PermissionError:
        raise ReloadError(f"process {process} is another user's, whom we may not signal") from None


def _signal_state(process: int) -> tuple[str | None, bool]:
    """Return the name of a process's program, and whether it expects SIGHUP.

    Where the system tells neither, None and true.
    """
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return None, True
    members = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    caught = int(members.get("SigCgt", "1").strip(), 16)
    return members.get("Name", "").strip(), bool(caught >> (signal.SIGHUP - 1) & 1)
