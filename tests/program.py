"""`heliograph` in a process of its own that starts in no time.

Nearly all of what a start costs is reading modules. So one process, the forge, reads them once for
the whole run of the tests, and each process that a test starts is forked from it: with its own
environment, folder, files and signals, it then does what the program does.
"""

import array
import atexit
import contextlib
import fcntl
import functools
import gc
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn, Self

import shared

_SECONDS = 60.0
_LARGEST = 1 << 20
_STANDARD = 3
_MOST_FILES = 8
# How the program has ended, once it has by itself.
_STATUS: list[int] = []
MODULES = ("heliograph.cli.serve", "heliograph.app", "heliograph.server", "alembic.command")


class Program:
    """A process that runs `heliograph` with these arguments: of subprocess.Popen what we need.

    With another `module` it runs that, as `python -m` does. To write beyond `largest_file` bytes
    fails as on a full disk. It gets the sockets `handed` over as systemd would hand them. A context
    manager that waits for its end.
    """

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str],
        cwd: Path,
        stdin: IO[Any] | None = None,
        stdout: IO[Any] | int | None = None,
        stderr: IO[Any] | int | None = None,
        module: str | None = None,
        largest_file: int | None = None,
        handed: Sequence[socket.socket] = (),
    ) -> None:
        self.args = [module or "heliograph", *arguments]
        self.returncode: int | None = None
        self._told_once = threading.Lock()
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        with contextlib.ExitStack() as opened:
            if stdin is None:
                stdin = opened.enter_context(Path(os.devnull).open("rb"))
            files = [stdin.fileno()]
            for name, wanted, usual in (("stdout", stdout, 1), ("stderr", stderr, 2)):
                if wanted == subprocess.PIPE:
                    reading, writing = os.pipe()
                    setattr(self, name, os.fdopen(reading, "rb"))
                    opened.callback(os.close, writing)
                    files.append(writing)
                elif wanted == subprocess.STDOUT:
                    files.append(files[1])
                elif wanted == subprocess.DEVNULL:
                    files.append(opened.enter_context(Path(os.devnull).open("wb")).fileno())
                elif wanted is None:
                    files.append(usual)
                else:
                    files.append(wanted if isinstance(wanted, int) else wanted.fileno())
            files += [each.fileno() for each in handed]
            self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._connection.settimeout(_SECONDS)
            self._connection.connect(_forge())
            wanted = {
                "module": module,
                "arguments": self.args,
                "environment": dict(env),
                "folder": str(cwd),
                "largest_file": largest_file,
            }
            socket.send_fds(self._connection, [json.dumps(wanted).encode()], files)
        self.pid = int(self._connection.recv(64))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self.stdout, self.stderr):
            if file is not None:
                file.close()
        self.wait()

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; none while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once it has ended."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            with self._told_once:
                if self.returncode is None:
                    self.returncode = int(self._connection.recv(64))
                    self._connection.shutdown(socket.SHUT_RDWR)
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Return what it has written to the pipes, once it has ended and closed them."""
        said = {self.stdout: "", self.stderr: ""}

        def read(file: IO[bytes]) -> None:
            said[file] = file.read().decode()

        pipes = [file for file in (self.stdout, self.stderr) if file is not None]
        readers = [threading.Thread(target=read, args=(pipe,), name="pipe") for pipe in pipes]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
        self.wait(timeout)
        return said[self.stdout], said[self.stderr]

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


def run_binary(
    *arguments: str, timeout: float, typed: bytes = b"", **options: Any
) -> "subprocess.CompletedProcess[bytes]":
    """Return what the program prints, run to its end as subprocess.run does; options as Program."""
    with contextlib.ExitStack() as opened:
        files = {
            name: opened.enter_context(tempfile.TemporaryFile())
            for name in ("stdin", "stdout", "stderr")
        }
        files["stdin"].write(typed)
        files["stdin"].seek(0)
        process = Program(*arguments, **files, **options)
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        said = []
        for name in ("stdout", "stderr"):
            files[name].seek(0)
            said.append(files[name].read())
    return subprocess.CompletedProcess(process.args, status, *said)


def run(*arguments: str, timeout: float, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Return what the program says, as text."""
    done = run_binary(*arguments, timeout=timeout, **options)
    said = done.stdout.decode(), done.stderr.decode()
    return subprocess.CompletedProcess(done.args, done.returncode, *said)


class Forked:
    """What the migrations use of `subprocess`: it runs `python -m MODULE ARGUMENT…` from the forge.

    Alembic takes longer to import than all migrations to run.
    """

    DEVNULL = subprocess.DEVNULL
    TimeoutExpired = subprocess.TimeoutExpired

    @staticmethod
    def run(
        command: list[str], *, env: Mapping[str, str], timeout: float, **_: object
    ) -> "subprocess.CompletedProcess[str]":
        """Return what the module says."""
        _, _, module, *arguments = command
        return run(*arguments, env=env, cwd=Path.cwd(), timeout=timeout, module=module)


@functools.cache
def _forge() -> bytes:
    """Start the forge, once a run, and return its socket's name."""

    def start() -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            # Linux' own names: no file to delete.
            listening.bind("")
            listening.listen(100)
            # It goes on in the background, and ends with the run.
            subprocess.run(
                [sys.executable, __file__, str(listening.fileno())],
                # Threads do not come along when it is forked.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                pass_fds=[listening.fileno()],
                start_new_session=True,
                check=True,
                timeout=_SECONDS,
            )
            name: bytes = listening.getsockname()
            return name[1:].decode()

    return b"\0" + shared.once("forge", start).encode()


def on_path(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a shell in which `heliograph` is forked from the forge."""
    path = f"{Path(__file__).with_name('bin')}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**environment, "PATH": path, "HELIOGRAPH_FORGE": _forge()[1:].decode()}


def _serve(listening: socket.socket) -> NoReturn:
    """Fork what is asked for, and tell its pid and then its status."""
    children: dict[int, socket.socket] = {}
    ended, waking = os.pipe()
    os.set_blocking(waking, False)
    os.set_blocking(ended, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    while True:
        ready = select.select([listening, ended], [], [])[0]
        if ended in ready:
            os.read(ended, 4_096)
            for pid, status in _reaped(list(children)):
                with children.pop(pid) as connection, contextlib.suppress(OSError):
                    connection.send(b"%d" % status)
        if listening in ready:
            connection = listening.accept()[0]
            wanted, files = _received(connection)
            pid = os.fork()
            if pid == 0:
                for other in (listening, connection, *children.values()):
                    other.close()
                os.close(ended)
                os.close(waking)
                _become(wanted, files)
            for file in files:
                os.close(file)
            children[pid] = connection
            connection.send(b"%d" % pid)


def _received(connection: socket.socket) -> tuple[Any, list[int]]:
    room = socket.CMSG_LEN(_MOST_FILES * array.array("i").itemsize)
    data, ancillary, *_ = connection.recvmsg(_LARGEST, room)
    files = array.array("i")
    for _, _, passed in ancillary:
        files.frombytes(passed)
    return json.loads(data), list(files)


def _reaped(children: list[int]) -> Iterator[tuple[int, int]]:
    for child in children:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            yield pid, os.waitstatus_to_exitcode(status)


def _become(wanted: Any, files: list[int]) -> NoReturn:
    """Do what a process of these arguments does, and end as it does."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Out of the way of the numbers that they get.
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, _MOST_FILES) for file in files]
    for file in files:
        os.close(file)
    for number, file in enumerate(moved):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(wanted["environment"])
    if len(files) > _STANDARD:
        os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(files) - _STANDARD)}
    if (largest := wanted["largest_file"]) is not None:
        # Python ignores the signal: what is written beyond fails.
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    os.chdir(wanted["folder"])
    sys.argv = wanted["arguments"]
    try:
        if wanted["module"] is None:
            main.run()
        else:
            # As `python -m`, it is looked for in the folder first.
            sys.path.insert(0, wanted["folder"])
            runpy.run_module(wanted["module"], run_name="__main__", alter_sys=True)
        sys.exit(0)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            _STATUS.append(end.code or 0)
        raise


def _leave() -> None:
    """End without taking apart all that the forge has read: it takes longer than most commands."""
    for status in _STATUS:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


if __name__ == "__main__":
    import importlib

    # Registered first, it is called last.
    atexit.register(_leave)

    from heliograph.cli import main
    from heliograph.store.queries import load_queries, texts

    for module in MODULES:
        importlib.import_module(module)
    for engine in ("sqlite", "postgresql"):
        queries = load_queries(engine)
        for name in texts(engine):
            queries[name]
    # At its end a process would look through all of it for garbage: a third of a second.
    gc.freeze()
    if os.fork() == 0:
        _serve(socket.socket(fileno=int(sys.argv[1])))
