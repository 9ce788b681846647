"""What the tests stand on: ports that nobody else gets, and a run that leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import aiosqlite
import pytest

import shared
from ports import free_port

TESTS = str(Path(shared.__file__).parent)
PROGRAM = f"""
import subprocess, sys, time
sys.path.insert(0, {TESTS!r})
import shared
with shared.begin():
    print(shared.folder(), flush=True)
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    print(child.pid, flush=True)
    if sys.argv[1] == "stay":
        time.sleep(1000)
"""


def test_a_free_port_is_handed_to_nobody_else_until_a_server_takes_it() -> None:
    port = free_port()
    others = [socket.socket() for _ in range(2_000)]
    try:
        for other in others:
            other.bind(("127.0.0.1", 0))
        assert port not in {other.getsockname()[1] for other in others}
    finally:
        for other in others:
            other.close()
    for _ in range(2):
        with socket.create_server(("127.0.0.1", port)):
            socket.create_connection(("127.0.0.1", port)).close()


def is_gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_run_leaves_neither_files_nor_processes_even_if_it_is_killed() -> None:
    environment = {name: text for name, text in os.environ.items() if name != shared.VARIABLE}
    for what in ("leave", "stay"):
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, what],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as run:
            folder, child = Path(run.stdout.readline().strip()), int(run.stdout.readline())
            if what == "stay":
                assert folder.is_dir()
                run.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 60
        while folder.exists() or not is_gone(child):
            assert time.monotonic() < deadline, f"left over: {folder}, {child}"
            time.sleep(0.01)


def test_what_is_made_once_is_made_once() -> None:
    made = []
    for _ in range(2):
        assert shared.once("a-test-of-this", lambda: made.append(1) or ["x", 1]) == ["x", 1]
    assert made == [1]


async def test_a_connection_that_is_left_open_keeps_no_run_from_its_end() -> None:
    before = set(threading.enumerate())
    async with aiosqlite.connect(":memory:"):
        assert [thread.daemon for thread in set(threading.enumerate()) - before] == [True]


def test_each_test_that_is_not_measured_is_there() -> None:
    text = ""
    for line in Path(TESTS, "unmeasured.txt").read_text().splitlines():
        if line.startswith(" "):
            assert f"def {line.strip().rpartition('::')[2]}(" in text, f"no such test: {line}"
        elif line and not line.startswith("#"):
            text = Path(TESTS, line).read_text()


def test_what_is_mostly_on_sqlite_is_there(request: pytest.FixtureRequest) -> None:
    conftest = request.config.pluginmanager.get_plugin(f"{TESTS}/conftest.py")
    assert [path for path in conftest.SQLITE_MOSTLY if not Path(TESTS, path).exists()] == []
