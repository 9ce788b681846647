"""A file that is written over several runs: whole under its name, or in part beside it."""

import fcntl
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self

import msgspec

from heliograph.cli.transfer.progress import write_whole
from heliograph.errors import StartError
from heliograph.exchange.pages import EncodedPage, Position
from heliograph.exchange.wide import Column

SAVE_SECONDS = 5.0
GZIP = 16 + zlib.MAX_WBITS


class Checkpoint(msgspec.Struct):
    """Up to where a part is known to be good, and behind which row it goes on.

    `wanted` is what the export is of: a part of another one is not gone on with.
    """

    wanted: str
    bytes: int
    rows: int
    position: Position
    # Those of a wide table.
    columns: list[Column] | None = None


class PartialFile:
    """`<file>.part` and, beside it, the checkpoint; a context manager.

    Each checkpoint ends a member of a gzip archive: what comes later is a member of its own, and
    whoever reads the archive sees none of it.
    """

    def __init__(self, path: Path, wanted: str, *, compress: bool, restart: bool) -> None:
        """Open the part, at its last checkpoint if it has one.

        Raises:
            StartError: it can't be written, is of another export, or another process writes it.
        """
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._side = path.with_name(f"{path.name}.part.json")
        self._wanted = wanted
        self._compress = compress
        self._compressor = self._new_compressor()
        self._saved_at = time.monotonic()
        self._position: Position | None = None
        self._columns: list[Column] | None = None
        # Whether what is written ends with the last row of a page, and not within one.
        self._ends_whole = True
        self.rows = 0
        try:
            self._file = self._open()
            try:
                if restart:
                    # It would be taken for one of what is written now.
                    self._side.unlink(missing_ok=True)
                self.checkpoint = self._read_checkpoint()
                self._file.seek(self.checkpoint.bytes if self.checkpoint else 0)
                self._file.truncate()
            except BaseException:
                self._file.close()
                raise
        except OSError as error:
            raise StartError(f"can't write {self._part}: {error.strerror}") from error
        if self.checkpoint:
            self.rows = self.checkpoint.rows
            self._columns = self.checkpoint.columns

    def _open(self) -> BinaryIO:
        descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        file = os.fdopen(descriptor, "r+b")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise StartError(f"another export writes {self._part}") from None
        return file

    def _read_checkpoint(self) -> Checkpoint | None:
        try:
            found = msgspec.json.decode(self._side.read_bytes(), type=Checkpoint)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError:
            raise StartError(f"{self._side} can't be read: begin anew with --restart") from None
        if found.wanted != self._wanted:
            raise StartError(
                f"{self._part} is of an export with other options: begin anew with --restart"
            )
        if os.fstat(self._file.fileno()).st_size < found.bytes:
            raise StartError(f"{self._part} is too short: begin anew with --restart")
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._file.close()
            return
        # On a full disk it can't be done: then the checkpoint before counts.
        with suppress(OSError):
            if self._position is not None and self._ends_whole:
                self._save()
        with suppress(OSError):
            self._file.close()
        if not self._side.exists():
            self._part.unlink(missing_ok=True)

    def begin(self, heading: bytes, columns: Sequence[Column] | None = None) -> None:
        """Write what stands before the first row, unless it stands there.

        Whoever goes on with the part finds the columns in its checkpoint.

        Raises:
            StartError: it can't be written.
        """
        if self.checkpoint is None:
            self._columns = None if columns is None else list(columns)
            with self._writing():
                self._write(heading)

    def add(self, page: EncodedPage) -> None:
        """Write a page; what came before it is safe from time to time.

        Raises:
            StartError: it can't be written.
        """
        with self._writing():
            self._ends_whole = False
            self._write(page.data)
            self.rows += page.rows
            self._position = page.position
            self._ends_whole = True
            if time.monotonic() - self._saved_at >= SAVE_SECONDS:
                self._save()

    def finish(self, pack: Callable[[Path, BinaryIO], None] | None = None) -> int:
        """Give the file its name, whole; return its size in bytes.

        With `pack` it is what that makes of the part.

        Raises:
            StartError: it can't be written.
        """
        with self._writing():
            self._end_member()
            os.fsync(self._file.fileno())
            if pack is None:
                size = self._file.tell()
                self._part.replace(self._path)
            else:
                # Interrupted while it is packed, it goes on behind the last row.
                size = write_whole(self._path, partial(pack, self._part))
                self._part.unlink()
            self._position = None
            self._side.unlink(missing_ok=True)
        return size

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._ends_whole = False
            raise StartError(
                f"can't write {self._part}: {error.strerror or error}; the same command goes on"
                " from where this one ended"
            ) from error

    def _write(self, data: bytes) -> None:
        self._file.write(self._compressor.compress(data) if self._compressor else data)

    def _new_compressor(self) -> "zlib._Compress | None":
        return zlib.compressobj(wbits=GZIP) if self._compress else None

    def _end_member(self) -> None:
        if self._compressor is not None:
            self._file.write(self._compressor.flush())
            self._compressor = self._new_compressor()
        self._file.flush()

    def _save(self) -> None:
        if self._position is None:
            return
        self._end_member()
        os.fsync(self._file.fileno())
        checkpoint = Checkpoint(
            self._wanted, self._file.tell(), self.rows, self._position, self._columns
        )
        write_whole(self._side, lambda file: file.write(msgspec.json.encode(checkpoint)))
        self._saved_at = time.monotonic()
