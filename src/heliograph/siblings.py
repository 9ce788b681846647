"""The other workers of this server: what one of them is asked to do, all do."""

import asyncio
import contextlib
import hashlib
import itertools
import os
import socket
from collections.abc import Callable

import structlog

from heliograph.errors import StartError
from heliograph.ingest.elsewhere import Elsewhere
from heliograph.live import signals
from heliograph.running_settings import RunningSettings
from heliograph.worker import Worker

log = structlog.get_logger()

ANSWER_SECONDS = 3.0
# A scrape has ten seconds by default, and is late without need where a worker stands still.
COUNTS_SECONDS = 1.0
GROUP_BYTES = 16


class Siblings:
    """Has the other workers do what one is asked: read their settings again, tell their counts."""

    def __init__(
        self, worker: Worker, elsewhere: Elsewhere | None, settings: RunningSettings
    ) -> None:
        """Speak with those of the same parent."""
        self._worker = worker
        self._count = worker.processes - 1
        self._elsewhere = elsewhere
        self._settings = settings
        # Other servers on the database have an environment of their own.
        parent = f"{socket.gethostname()} {os.getppid()}".encode()
        self._group = hashlib.blake2b(parent, digest_size=GROUP_BYTES).hexdigest()
        self._questions = itertools.count(1)
        # By the question that is waited for: who has answered, and what.
        self._answers: dict[int, dict[int, bytes]] = {}
        self._answered = asyncio.Event()
        self._counts: Callable[[], bytes] = bytes
        if elsewhere is not None and not worker.is_alone:
            elsewhere.receive(signals.ReadSettings, self._reread)
            elsewhere.receive(signals.SettingsRead, self._note_read)
            elsewhere.receive_at_once(signals.CountsAsked, self._answer_counts)
            elsewhere.receive_at_once(signals.CountsTold, self._note_counts)

    @property
    def workers(self) -> int:
        """How many there are with this one."""
        return self._worker.processes

    def begin(self) -> None:
        """Read the settings as the others have perhaps: the parent has them as of its start."""
        if self._worker.is_again:
            with contextlib.suppress(StartError):
                self._settings.reread()

    async def reread(self) -> int:
        """Have the others read their settings again; return how many have not said that they have.

        Those may be just starting, for which they read them, too.
        """
        answers = await self._ask(signals.ReadSettings, ANSWER_SECONDS)
        left = max(0, self._count - len(answers))
        if left:
            log.warning("settings perhaps not read again by all workers", left=left)
        return left

    def tell_counts(self, counts: Callable[[], bytes]) -> None:
        """Tell the others what this worker has counted, which this returns, when they ask."""
        self._counts = counts

    async def all_counts(self) -> list[bytes]:
        """Return what the others have counted, of those that tell it in time."""
        if self._elsewhere is None or not self._elsewhere.is_connected:
            return []
        return list((await self._ask(signals.CountsAsked, COUNTS_SECONDS)).values())

    async def _ask(
        self, question_of: type[signals.ReadSettings | signals.CountsAsked], seconds: float
    ) -> dict[int, bytes]:
        """Ask the others, and return their answers by their numbers once all have given one."""
        answers: dict[int, bytes] = {}
        if not self._count or self._elsewhere is None:
            return answers
        asker, question = self._elsewhere.number, next(self._questions)
        self._answers[question] = answers
        self._elsewhere.tell(question_of(self._group, asker, question))
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while len(answers) < self._count:
                        self._answered.clear()
                        await self._answered.wait()
        finally:
            del self._answers[question]
        return answers

    async def _reread(self, told: signals.ReadSettings) -> None:
        if told.group != self._group or self._elsewhere is None:
            return
        # It is in the log why they can't be applied.
        with contextlib.suppress(StartError):
            self._settings.reread()
            answer = signals.SettingsRead(
                self._group, told.asker, told.question, self._elsewhere.number
            )
            self._elsewhere.tell(answer)

    def _answer_counts(self, told: signals.CountsAsked) -> None:
        if told.group == self._group and self._elsewhere is not None:
            named = self._group, told.asker, told.question, self._elsewhere.number
            self._elsewhere.tell(signals.CountsTold(*named, self._counts()))

    async def _note_read(self, told: signals.SettingsRead) -> None:
        self._note(told, b"")

    def _note_counts(self, told: signals.CountsTold) -> None:
        self._note(told, told.counts)

    def _note(self, told: signals.SettingsRead | signals.CountsTold, answer: bytes) -> None:
        if self._elsewhere is None or told.asker != self._elsewhere.number:
            return
        answers = self._answers.get(told.question)
        if answers is not None and told.group == self._group:
            answers[told.number] = answer
            self._answered.set()
