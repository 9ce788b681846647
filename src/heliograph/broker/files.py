"""Files that another program reads: replaced whole, never half; and the signal to read them."""

import contextlib
import os
import secrets
import signal
import stat
from pathlib import Path

# Of a file that did not exist: for us, and the group of its folder.
_NEW_MODE = 0o640
_LONGEST_PID_FILE = 64


class ReloadError(Exception):
    """The broker can't be told to read its files; one line says why."""


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
    """Put a file with this text in the path's place, and tell whether it differs.

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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            _give(descriptor, owner, group)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)
    return True


def _give(descriptor: int, owner: int, group: int) -> None:
    try:
        os.fchown(descriptor, owner, group)
    except PermissionError:
        # Not being root: only to a group that we are in, if at all.
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, -1, group)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    found, expects = _described(process)
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


def _described(process: int) -> tuple[str | None, bool]:
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
