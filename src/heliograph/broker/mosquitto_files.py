"""Keeps Mosquitto's password and ACL files as the registry has it.

change of the registry ─▶ wait a moment ─▶ read all devices ─▶ replace files ─▶ SIGHUP
"""

import asyncio
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import structlog

from heliograph.broker.files import ReloadError, read_text, reload_broker, replace_text
from heliograph.broker.mosquitto import ServerAccount, acl_file, password_file
from heliograph.broker.rules import Rules
from heliograph.broker.sections import BrokenSectionError
from heliograph.errors import StoreUnavailableError
from heliograph.store.broker_access import BrokerAccess

log = structlog.get_logger()

# Changes that come together are written together.
COALESCE_SECONDS = 0.2
# Between two rewrites: so long, and so many times as long as the last one took.
REST_SECONDS = 1.0
REST_FACTOR = 10.0
RETRY_SECONDS = 5.0


class FilesError(Exception):
    """The files could not be brought up to date, or Mosquitto not told; one line says why."""


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
        self, access: BrokerAccess, paths: MosquittoPaths, rules: Rules, server: ServerAccount
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
                self._failed(str(error))
                self._changed.set()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                took = time.monotonic() - started
                await asyncio.sleep(max(REST_SECONDS, REST_FACTOR * took))

    async def update(self) -> Rewrite:
        """Write what differs, and have Mosquitto read it.

        Raises:
            FilesError: a file can't be written, or Mosquitto can't be told.
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
        """Write a file anew from what it says, and tell whether it differs."""
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
            log.info("Mosquitto's files are up to date again")
        self._problem = None
        if written.changed:
            log.info("Mosquitto's files written", devices=written.devices)
        if written.unknown != self._unknown:
            self._unknown = written.unknown
            if written.unknown:
                log.warning(
                    "devices that can't log in at Mosquitto until they have a new key",
                    count=len(written.unknown),
                    first=written.unknown[0],
                )

    def _failed(self, problem: str) -> None:
        if problem != self._problem:
            log.error("Mosquitto's files are not up to date", reason=problem)
        self._problem = problem
