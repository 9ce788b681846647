"""Which write-ahead log a SQLite file belongs to: a backup beside another's log is refused.

SQLite applies whatever log lies beside a file: nothing in the one names the other. So the file's
header holds a random number, its generation, and a file beside both says which generation goes
with which log. Decision 0018 has the argument why a killed server is never refused by that.
"""

import contextlib
import fcntl
import json
import os
import secrets
import sqlite3
import struct
import threading
import time
import urllib.parse
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import structlog

from heliograph.errors import StartError
from heliograph.files import replace_file

log = structlog.get_logger()

Identity = tuple[int, int]
Salts = tuple[int, int]

# Frames after which the log is written back into the file: 64 MiB of 4 KiB pages. With SQLite's
# own 1,000, hot index pages are copied back so often that inserting is a sixth slower.
CHECKPOINT_FRAMES = 16_000
# Large batches between two checkpoints, if there are any and the log has not got as long as it
# may before: each writes the newest index page of every sensor, and a checkpoint writes all of
# those again.
CHECKPOINT_BATCHES = 8
# As many more before the next try, where somebody still reads what is to be written back.
RETRY_FRAMES = 4_000
# Where there is always somebody who reads, a log is never begun anew. When it is so many times as
# long as it should be, the checkpoint waits until those who read now have ended (`RESTART`).
PATIENCE = 4
# A command looks at the file for milliseconds, a server that ends lets go of it at once.
CLAIM_SECONDS = 2.0
_ATTEMPT_SECONDS = 0.02

_MAGIC = b"SQLite format 3\0"
_MODE_OFFSET = 18
_MODE_WITH_LOG = b"\2\2"
_GENERATION_OFFSET = 60  # PRAGMA user_version
_HEADER_BYTES = 100
_LOG_HEADER_BYTES = 32
_SALTS_OFFSET = 16
_FRAME_HEADER_BYTES = 24
_FRAME_SALTS_OFFSET = 8
# In the index of the log (-shm): its salts, and how far a checkpoint has got to write pages back.
_INDEX_SALTS_OFFSET = 32
_INDEX_ATTEMPTED_OFFSET = 128

# What this process has open by SQLite. POSIX locks are the process's, and closing any descriptor
# of a file drops them all: such a file is not to be opened by anything else.
_open_here: Counter[Identity] = Counter()


def identity_of(path: Path) -> Identity:
    """Return device and inode of the file.

    Raises:
        FileNotFoundError: there is none.
    """
    status = os.stat(path)  # noqa: PTH116 - a hundredth of a commit's cost
    return status.st_dev, status.st_ino


def note_open(identity: Identity) -> None:
    """Note that SQLite has a connection to the file in this process."""
    _open_here[identity] += 1


def note_closed(identity: Identity) -> None:
    """Note that what `note_open` has noted is over."""
    _open_here[identity] -= 1
    if not _open_here[identity]:
        del _open_here[identity]


def is_open_here(identity: Identity) -> bool:
    """Return whether this process has the file open by SQLite."""
    return identity in _open_here


def log_of(path: Path) -> Path:
    """Return where SQLite has the file's write-ahead log."""
    return Path(f"{path}-wal")


def sidecar_of(path: Path) -> Path:
    """Return where the file's generation is written down."""
    return Path(f"{path}-generation")


class Sidecar(NamedTuple):
    """What the file's header may say, beside the log with these salts.

    Attributes:
        generations: What it may say at any time.
        in_log: What it may say once a checkpoint of this log has begun, and nothing else once
            this log was begun anew: then all of it is in the file.
        salts: Those of the log; None: any, for there was no log.
    """

    generations: frozenset[int]
    in_log: frozenset[int]
    salts: Salts | None

    def fits(self, generation: int, salts: Salts, is_written_back: bool) -> bool:
        """Return whether a file of this generation belongs to the log with these salts."""
        if self.salts is not None and salts != self.salts:
            # SQLite begins a log anew with the next number, once all of it is in the file. That
            # happens in the first commit after it, before it can be written down here.
            if salts[0] != (self.salts[0] + 1) & 0xFFFF_FFFF:
                return False
            return generation in self.in_log
        if generation in self.generations:
            return True
        return generation in self.in_log and (is_written_back or self.salts is None)

    @classmethod
    def read(cls, path: Path) -> "Sidecar | None":
        """Return what is written down for the file; None: nothing that can be read."""
        try:
            text = sidecar_of(path).read_bytes()
        except FileNotFoundError:
            return None
        try:
            found = json.loads(text)
            salts = found["salts"]
            return cls(
                frozenset(map(int, found["generations"])),
                frozenset(map(int, found["in_log"])),
                None if salts is None else (int(salts[0]), int(salts[1])),
            )
        except (ValueError, TypeError, LookupError):
            log.warning("generation of the database file unreadable", file=str(sidecar_of(path)))
            return None

    def write(self, path: Path) -> None:
        """Write it down for the file, whole or not at all, and on the disk.

        Raises:
            OSError: it can't be.
        """
        members = {
            "generations": sorted(self.generations),
            "in_log": sorted(self.in_log),
            "salts": self.salts,
        }
        # A command may be run by root: what it writes is for the server to read.
        known = path.stat()
        data = json.dumps(members).encode()
        replace_file(sidecar_of(path), data, owner=known.st_uid, group=known.st_gid)


def make_shortenable(connection: sqlite3.Connection, path: Path) -> None:
    """Have a file that has nothing in it yet be of the kind that can give room back."""
    if not path.stat().st_size:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")


def look(path: Path, *, accept_empty: bool = False) -> None:
    """Admit the file for a process that is no server, before SQLite opens it.

    What a server has, it has admitted itself.

    Raises:
        StartError: it does not belong to the log beside it, or is empty.
    """
    try:
        if not path.exists():
            admit(path)
            return
        if is_open_here(identity_of(path)):
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if lock(descriptor):
                admit(path, accept_empty=accept_empty)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StartError(f"DATABASE_URL: can't open {path}: {error.strerror}") from error


def lock(descriptor: int) -> bool:
    """Lock the file against servers, by device and inode; False: another process has it.

    SQLite's own locks are of another kind, and don't see this one.

    Raises:
        OSError: there are no locks on this file system.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_soon(descriptor: int) -> bool:
    """Lock it like `lock`, and wait for a command that is just looking at it."""
    never = threading.Event()
    deadline = time.monotonic() + CLAIM_SECONDS
    while not lock(descriptor):
        if time.monotonic() > deadline:
            return False
        never.wait(_ATTEMPT_SECONDS)
    return True


def admit(path: Path, *, accept_empty: bool = False, for_server: bool = False) -> int | None:
    """Make sure that the file and the log beside it belong together; return its generation.

    The caller has locked the file, and SQLite has no connection to it in this process.
    `for_server`: it stays locked, and the log may be deleted and made anew before `begin`.

    Raises:
        StartError: they do not, or the file is empty and was not.
        OSError: it can't be read.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        size = -1
    if size <= 0:
        # A missing file is an empty database to come: whoever wants that has deleted it.
        had_content = sidecar_of(path).exists() or _salts_of(log_of(path)) is not None
        if size == 0 and had_content and not accept_empty:
            raise StartError(
                f"DATABASE_URL: {path} is empty, and was not: put a backup in its place, or begin"
                " with an empty database by ACCEPT_EMPTY_DATABASE=true or by deleting the file"
            )
        _move_log_aside(path)
        sidecar_of(path).unlink(missing_ok=True)
        return None
    header = _read(path, 0, _HEADER_BYTES)
    salts = _salts_of(log_of(path))
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        if salts is not None:
            # SQLite would find a header in the log, and write that into whatever this is.
            raise _unfit(path)
        return None  # SQLite says better what it is
    generation: int = struct.unpack_from(">i", header, _GENERATION_OFFSET)[0]
    known = Sidecar.read(path)
    if salts is None:
        # Without a log nothing can be applied to the wrong file.
        if known is not None:
            if generation not in known.generations | known.in_log:
                log.warning("database file replaced", file=str(path))
            Sidecar(frozenset({generation}), frozenset(), None).write(path)
        return generation
    # What VACUUM INTO makes has its source's generation, but has never had a log.
    had_log = header[_MODE_OFFSET:].startswith(_MODE_WITH_LOG)
    if had_log and known is None:
        return generation
    if had_log and known is not None and known.fits(generation, salts, _written_back(path, salts)):
        if for_server:
            Sidecar(known.generations | {generation}, known.in_log, None).write(path)
        return generation
    raise _unfit(path)


def _unfit(path: Path) -> StartError:
    return StartError(
        f"DATABASE_URL: {path} and the write-ahead log beside it do not belong together, as when a"
        f" backup is put in place of a file in use: move {log_of(path)} away to start from the"
        " file as it is, or put the earlier file back (docs/guide/restore.md)"
    )


def _move_log_aside(path: Path) -> None:
    """Keep a log whose file is gone: SQLite would delete it."""
    orphan = log_of(path)
    if not orphan.exists() or not orphan.stat().st_size:
        return
    kept = Path(f"{orphan}.orphan-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    while kept.exists():
        kept = Path(f"{kept}-")
    orphan.rename(kept)
    log.warning("write-ahead log without a database file moved aside", kept=str(kept))


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _salts_of(log_path: Path) -> Salts | None:
    """Return the log's salts; None: there is nothing in it."""
    try:
        if log_path.stat().st_size <= _LOG_HEADER_BYTES:
            return None
        header = _read(log_path, 0, _LOG_HEADER_BYTES)
    except FileNotFoundError:
        return None
    first, second = struct.unpack_from(">II", header, _SALTS_OFFSET)
    return first, second


def _written_back(path: Path, salts: Salts) -> bool:
    """Return whether a checkpoint of the log has begun, as far as can be known."""
    try:
        index = _read(Path(f"{path}-shm"), 0, _INDEX_ATTEMPTED_OFFSET + 4)
    except FileNotFoundError:
        return True
    if len(index) < _INDEX_ATTEMPTED_OFFSET + 4:
        return True
    # It holds the salts as they stand in the log, numbers in the machine's own order, and is not
    # synchronized: after a power cut it may be of another log.
    if struct.unpack_from(">II", index, _INDEX_SALTS_OFFSET) != salts:
        return True
    attempted: int = struct.unpack_from("=I", index, _INDEX_ATTEMPTED_OFFSET)[0]
    return attempted > 0


class _Log:
    """The log of an open database, read beside SQLite: it takes no locks on this file."""

    def __init__(self, path: Path, page_size: int) -> None:
        self._descriptor = os.open(log_of(path), os.O_RDONLY | os.O_CLOEXEC)
        self._stride = _FRAME_HEADER_BYTES + page_size
        self._salts = b""
        self._frames = 0

    def close(self) -> None:
        os.close(self._descriptor)

    def measure(self) -> tuple[bytes, int]:
        """Return its salts, and how many frames were written with them."""
        salts = os.pread(self._descriptor, 8, _SALTS_OFFSET)
        if salts != self._salts:
            self._salts, self._frames = salts, 0
        if len(salts) < 8:  # it was cut off, or nothing was written yet
            return salts, 0
        # Frames that were written with earlier salts follow those with these: find the border.
        low, step = self._frames, 1
        while self._is_written(low + step - 1):
            low, step = low + step, step * 2
        high = low + step - 1
        while low < high:
            middle = (low + high) // 2
            if self._is_written(middle):
                low = middle + 1
            else:
                high = middle
        self._frames = low
        return salts, low

    def may_have(self, frames: int) -> bool:
        """Return whether it may have so many frames, or was begun anew since `measure`.

        Two reads, where to measure it takes a dozen: each gives the interpreter away.
        """
        salts = os.pread(self._descriptor, 8, _SALTS_OFFSET)
        return salts != self._salts or frames <= 0 or self._is_written(frames - 1)

    def _is_written(self, frame: int) -> bool:
        at = _LOG_HEADER_BYTES + frame * self._stride + _FRAME_SALTS_OFFSET
        return os.pread(self._descriptor, 8, at) == self._salts


class _Pin:
    """Keeps others from beginning the log anew: a transaction that reads what is in it.

    They may write it back all the same. But as long as the log goes on, it holds everything that
    a copy with a number of its time can lack.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(
            f"file:{urllib.parse.quote(str(path))}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=0,
            check_same_thread=False,
        )

    @property
    def is_held(self) -> bool:
        return self._connection.in_transaction

    def hold(self) -> None:
        """Hold the log as it is now, if that can be."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("BEGIN")
            self._connection.execute("PRAGMA user_version").fetchone()

    def release(self) -> None:
        if self.is_held:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()


class Generation:
    """Keeps a server's file and its log told from all others; lives with the writer.

    Each checkpoint is between two generations: the first is the newest in the log when it is
    written back, and so what the file's header says from then on; the second comes right after
    it. No copy that SQLite makes of the database has the first, so that no copy is taken for
    the file. What may be the case next is written down before it may be.
    """

    def __init__(self, path: Path, longest: int = 0) -> None:
        """`longest`: the frames after which the log is written back however few commits it has."""
        self._path = path
        self._longest = max(longest, CHECKPOINT_FRAMES)
        self._in_file: set[int] = set()
        self._newest = 0
        self._log: _Log | None = None
        self._pin: _Pin | None = None
        self._log_salts = b""
        self._due = 0
        # Since the last checkpoint: the log's length then, and the large batches.
        self._since = self._batches = 0

    def begin(self, connection: sqlite3.Connection, admitted: int | None) -> None:
        """Renew it on a connection that was just opened; `admitted` is what the header says.

        Raises:
            sqlite3.Error: the database can't be written to.
            OSError: the folder can't.
        """
        newest = connection.execute("PRAGMA user_version").fetchone()[0]
        if self._due and admitted is None:
            if not self._still_has_its_log(connection):
                self._begun_anew_elsewhere(connection)
            elif newest == self._newest:
                # A checkpoint would make room where the disk is full, for a moment at a time.
                return
            else:
                self._put_in_elsewhere(newest)
        elif admitted is not None:
            self._in_file |= {newest, admitted}
        else:
            known = Sidecar.read(self._path)
            self._in_file |= {newest}
            if known is not None:
                self._in_file |= known.generations | known.in_log
        self._newest = newest
        # The log may be made anew by what is written next, with salts that nobody knows.
        self._renew(connection, None, "PASSIVE")

    def committed(self, connection: sqlite3.Connection, *, is_large: bool = False) -> None:
        """Renew it if the log has grown long, or was begun anew by somebody else."""
        self._batches += is_large
        if self._log is None or not self._log.may_have(self._due):
            return
        earlier, frames = self._log_salts, self._measured()
        if self._log_salts != earlier:
            self._begun_anew_elsewhere(connection)
        elif frames < self._due:
            return
        elif 0 < self._batches < CHECKPOINT_BATCHES and frames < self._since + self._longest:
            # About as many as there will be by then.
            expected = (frames - self._since) * CHECKPOINT_BATCHES // self._batches
            self._due = self._since + min(expected, self._longest)
            return
        self._try_to_renew(connection, frames)

    def written_elsewhere(self, connection: sqlite3.Connection) -> None:
        """Renew it if another process has put in another, or had the log begun anew."""
        if self._log is None:
            return
        newest = connection.execute("PRAGMA user_version").fetchone()[0]
        earlier, frames = self._log_salts, self._measured()
        if self._log_salts != earlier:
            self._begun_anew_elsewhere(connection)
        elif newest != self._newest:
            self._put_in_elsewhere(newest)
        elif frames < self._due:
            return
        self._try_to_renew(connection, frames)

    def _try_to_renew(self, connection: sqlite3.Connection, frames: int) -> None:
        waits = frames >= PATIENCE * self._longest
        try:
            self._renew(connection, self._known_salts, "RESTART" if waits else "PASSIVE")
        except (sqlite3.Error, OSError) as error:
            # What was committed is in the log, and the disk may be full.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._due = frames + RETRY_FRAMES
            log.warning("checkpoint of the write-ahead log failed", reason=str(error))
            return
        if waits and self._due > PATIENCE * self._longest:
            # Each time that it waits costs those who write as much: not again so soon.
            self._due = frames + self._longest
            log.warning("write-ahead log kept by a reader", frames=frames)

    def empty_log(self, connection: sqlite3.Connection) -> None:
        """Write the log into the file and cut it off, but for what readers still need."""
        earlier = self._log_salts
        self._measured()
        if self._log_salts != earlier:
            self._begun_anew_elsewhere(connection)
        self._renew(connection, self._known_salts, "TRUNCATE")

    def end(self, identity: Identity) -> None:
        """Let go of the log: the last connection to be closed, whosoever, may delete it.

        `identity` is the file's; beside another one SQLite leaves the log as it is.
        """
        if self._log is None:
            return
        self.close_log()
        with contextlib.suppress(OSError):  # then the log is as it was written down
            if identity_of(self._path) != identity:
                return
            Sidecar(frozenset(self._in_file), frozenset({self._newest}), None).write(self._path)

    def close_log(self) -> None:
        """Close what was opened to read the log: it may be deleted with the connection's end."""
        if self._pin is not None:
            self._pin.close()
            self._pin = None
        if self._log is not None:
            self._log.close()
            self._log = None

    @property
    def keeps_its_log(self) -> bool:
        """Whether nobody else can begin the log anew."""
        return self._pin is not None and self._pin.is_held

    @property
    def _known_salts(self) -> Salts | None:
        if len(self._log_salts) != 8:
            return None
        first, second = struct.unpack(">II", self._log_salts)
        return first, second

    def _renew(self, connection: sqlite3.Connection, salts: Salts | None, checkpoint: str) -> None:
        last, following = _random_generation(), _random_generation()
        coming = frozenset({self._newest, last, following})
        Sidecar(frozenset(self._in_file | {last}), coming, salts).write(self._path)
        earlier = self._newest
        self._in_file |= {earlier, last}
        connection.execute(f"PRAGMA user_version = {last}")
        self._newest = last
        self._open_log(connection)
        self._measured()
        if salts is not None and salts != self._known_salts:
            # That commit has begun the log anew, and the next one may do so again.
            self._in_file = {earlier, last}
            Sidecar(frozenset(self._in_file), coming, self._known_salts).write(self._path)
        if self._write_back(connection, checkpoint, following):
            self._in_file = {last}
            self._newest = following
            self._since, self._batches = self._measured(), 0
            self._due = self._since + CHECKPOINT_FRAMES
        else:
            self._due = self._measured() + RETRY_FRAMES
        in_log = frozenset({self._newest})
        Sidecar(frozenset(self._in_file), in_log, self._known_salts).write(self._path)

    def _write_back(self, connection: sqlite3.Connection, checkpoint: str, following: int) -> bool:
        """Write the log back and begin it anew; return whether it was all of it."""
        assert self._pin is not None  # noqa: S101 - tells the type checker
        was_held, is_whole = self._pin.is_held, False
        self._pin.release()
        try:
            row = connection.execute(f"PRAGMA wal_checkpoint({checkpoint})").fetchone()
            is_busy, written, written_back = row
            is_whole = not is_busy and written == written_back
            if is_whole:
                connection.execute(f"PRAGMA user_version = {following}")
        finally:
            # Whoever keeps the log for so long may mean to write it back and begin it anew.
            if is_whole or (was_held and checkpoint != "RESTART"):
                self._pin.hold()
        return is_whole

    def _put_in_elsewhere(self, newest: int) -> None:
        """Note that another has put this in: it may write back that, and what was there before."""
        self._in_file |= {self._newest, newest}
        self._newest = newest

    def _begun_anew_elsewhere(self, connection: sqlite3.Connection) -> None:
        """Note that all of the log before was written back, with what it said, by somebody else."""
        newest = connection.execute("PRAGMA user_version").fetchone()[0]
        # The other one may have put in another before or after.
        self._in_file = {self._newest, newest}
        self._newest = newest

    def _still_has_its_log(self, connection: sqlite3.Connection) -> bool:
        """Return whether the log is the one that this had before, as when readers kept it."""
        earlier = self._log_salts
        try:
            self._open_log(connection)
        except FileNotFoundError:
            return False
        self._measured()
        return self._log_salts == earlier

    def _open_log(self, connection: sqlite3.Connection) -> None:
        if self._log is None:
            page_size = connection.execute("PRAGMA page_size").fetchone()[0]
            self._log = _Log(self._path, page_size)
            self._pin = _Pin(self._path)
            self._pin.hold()

    def _measured(self) -> int:
        assert self._log is not None  # noqa: S101 - tells the type checker
        self._log_salts, frames = self._log.measure()
        return frames


def _random_generation() -> int:
    return secrets.randbelow((1 << 31) - 1) + 1
