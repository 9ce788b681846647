"""Scripts: which are run, with what, and how they end."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
import uvloop

from heliograph.errors import DeliveryError
from heliograph.processing.scripts import Scripts
from server import eventually

MEMORY = 512 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "scripts"
    path.mkdir(mode=0o755)
    return path


def script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path.name


def scripts(folder: Path | None, seconds: float = 10.0, memory: int = MEMORY) -> Scripts:
    return Scripts(folder, seconds=seconds, memory=memory, at_once=2)


async def refused(runner: Scripts, name: str) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await runner.run(name, b"{}")
    return caught.value


async def test_a_script_gets_the_message_and_nothing_of_the_server(folder, monkeypatch):
    monkeypatch.setenv("API_SECRET_KEY", "hidden")
    message = json.dumps({"value": "$(touch x); `touch x` | touch x > x & ' \" \n ü"}).encode()
    script(folder / "say", 'cat; echo; env; pwd; echo "$# $0"; ls -l /proc/$$/fd | wc -l')
    said = await scripts(folder).run("say", message)
    lines = said.splitlines()
    assert lines[0] == message.decode()
    assert {line for line in lines[1:] if "=" in line and not line.startswith("_=")} == {
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "LANG=C.UTF-8",
        "HOME=/nonexistent",
        f"PWD={folder}",
    }
    assert lines[-3:-1] == [str(folder), f"0 {folder / 'say'}"]
    assert [path.name for path in folder.iterdir()] == ["say"]


async def test_a_large_message_need_not_be_read(folder):
    script(folder / "deaf", "exit 0")
    assert await scripts(folder).run("deaf", b"x" * (1 << 20)) == ""


def test_a_script_may_end_before_its_message_is_written(folder):
    script(folder / "swift", "echo oh; exit 3")

    async def written_late():
        loop = asyncio.get_running_loop()
        start = loop.subprocess_exec

        async def ended(*arguments, **more):
            transport, running = await start(*arguments, **more)
            await eventually(transport.get_pipe_transport(0).is_closing)
            return transport, running

        loop.subprocess_exec = ended
        return await refused(scripts(folder), "swift")

    # As a server does.
    assert "status 3: oh" in str(uvloop.run(written_late()))


def test_only_scripts_of_the_folder_are_run(folder, tmp_path):
    outside = tmp_path / "outside"
    script(outside, "true")
    script(folder / "good", "true")
    script(folder / "plain", "true", 0o644)
    script(folder / "open", "true", 0o757)
    script(folder / "shared", "true", 0o775)
    (folder / "inner").mkdir()
    (folder / "inner").chmod(0o755)
    script(folder / "inner" / "deep", "true")
    (folder / "loose").mkdir()
    (folder / "loose").chmod(0o777)
    script(folder / "loose" / "deep", "true")
    os.mkfifo(folder / "pipe", 0o755)
    for name, target in (
        ("alias", "good"),
        ("out", outside),
        ("shell", "/bin/sh"),
        ("inner/up", "../../outside"),
        ("circle", "circle"),
        ("home", tmp_path),
        ("nowhere", "nothing"),
    ):
        (folder / name).symlink_to(target)
    # Its name begins as the folder's does.
    (tmp_path / "scripts-too").mkdir()
    script(tmp_path / "scripts-too" / "x", "true")
    (folder / "beside").symlink_to(tmp_path / "scripts-too" / "x")
    runner = scripts(folder)
    assert runner.find("good") == runner.find("alias") == folder / "good"
    assert runner.find("inner/deep") == folder / "inner" / "deep"
    for name, reason in {
        "../outside": "leads out of SCRIPTS_DIR",
        "inner/../good": "leads out of SCRIPTS_DIR",
        "..": "leads out of SCRIPTS_DIR",
        str(folder / "good"): "leads out of SCRIPTS_DIR",
        "/bin/sh": "leads out of SCRIPTS_DIR",
        "out": "is a link out of SCRIPTS_DIR",
        "shell": "is a link out of SCRIPTS_DIR",
        "beside": "is a link out of SCRIPTS_DIR",
        "inner/up": "is a link out of SCRIPTS_DIR",
        "home": "is a link out of SCRIPTS_DIR",
        "home/outside": "is a link out of SCRIPTS_DIR",
        "circle": "circle|is a link to itself",
        ".": "is no file",
        "inner": "is no file",
        "pipe": "is no file",
        "plain": r"is not executable: chmod \+x",
        "open": "others may write to '.*/open': chmod go-w",
        "shared": "others may write to '.*/shared': chmod go-w",
        "loose/deep": "others may write to '.*/loose': chmod go-w",
        "nothing": "there is no script 'nothing': No such file",
        "nowhere": "there is no script 'nowhere': No such file",
        "good; touch x": "there is no script",
        "good x": "there is no script",
        "$(touch x)": "there is no script",
        "good\0": "no NUL",
        "": "1 to 255 characters",
        "x" * 256: "1 to 255 characters",
    }.items():
        with pytest.raises(ValueError, match=reason):
            runner.find(name)
    folder.chmod(0o777)
    with pytest.raises(ValueError, match=r"others may write to '.*/scripts'"):
        runner.find("good")
    with pytest.raises(ValueError, match="SCRIPTS_DIR is not set"):
        scripts(None).find("good")


async def test_how_it_ends_is_told(folder):
    script(folder / "fails", "echo because; echo of this >&2; exit 3")
    script(folder / "killed", "kill -9 $$")
    (folder / "no-program").write_bytes(b"\x7fELF nothing")
    (folder / "no-program").chmod(0o755)
    runner = scripts(folder)
    told = [await refused(runner, name) for name in ("fails", "killed", "no-program", "missing")]
    assert [(str(error), error.is_final) for error in told] == [
        ("'fails' ended with status 3: because\nof this", False),
        ("'killed' ended with status 137", False),
        ("'no-program' can't be run: Exec format error", True),
        ("there is no script 'missing': No such file or directory", True),
    ]


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


STAY = "sleep 1000 & echo $! >>pids; setsid sh -c 'sleep 1000 & echo $! >>pids; wait' &"


async def test_what_outlives_it_is_ended(folder):
    script(folder / "leaves", f"{STAY}\nwhile [ $(wc -l <pids) -lt 2 ]; do :; done; echo done")
    assert await scripts(folder).run("leaves", b"{}") == "done\n"
    for pid in (folder / "pids").read_text().split():
        assert not is_running(pid)


async def test_what_takes_too_long_is_ended_with_all_it_has_started(folder):
    script(folder / "hangs", f"trap '' TERM\n{STAY}\necho $$ >>pids; while :; do sleep 1; done")
    error = await refused(scripts(folder, seconds=0.5), "hangs")
    assert str(error) == "'hangs' ended after 0.5 s, which is all it may take"
    assert not error.is_final
    for pid in (folder / "pids").read_text().split():
        assert not is_running(pid)


async def test_a_server_that_stops_leaves_nothing_running(folder):
    script(folder / "hangs", f"{STAY}\nwhile :; do sleep 1; done")
    running = asyncio.create_task(scripts(folder).run("hangs", b"{}"), name="script")
    pids = folder / "pids"
    await eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for pid in pids.read_text().split():
        assert not is_running(pid)


async def test_endless_output_and_memory_are_bounded(folder):
    script(folder / "endless", "while :; do echo more and more and more; done")
    error = await refused(scripts(folder), "endless")
    assert str(error) == "'endless' ended after 65536 bytes of output, which is all it may write"
    script(folder / "greedy", "dd if=/dev/zero of=/dev/null bs=100M count=1 2>&1 || exit 9")
    greedy = await refused(scripts(folder, memory=64 << 20), "greedy")
    assert str(greedy).startswith("'greedy' ended with status 9: dd: memory exhausted")
    assert "bytes" in await scripts(folder).run("greedy", b"{}")
    # As many at once as there are turns: the third waits for its own.
    script(folder / "counts", "echo x >>at; sleep 0.2; wc -l <at")
    runner = scripts(folder)
    seen = await asyncio.gather(*(runner.run("counts", b"{}") for _ in range(3)))
    assert min(map(int, seen)) == 2


def descriptors() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


async def test_an_ended_script_leaves_no_pipe_open(folder):
    before = descriptors()
    script(folder / "endless", "while :; do echo more and more and more; done")
    await refused(scripts(folder), "endless")
    assert descriptors() == before
    # Nobody is left to end what holds its pipes.
    script(folder / "orphan", "echo $$ >pid; kill -9 $PPID; exec sleep 1000")
    runner = scripts(folder, seconds=0.5)
    with pytest.raises(DeliveryError, match="all it may take"):
        await runner.run("orphan", b"x" * (1 << 20))
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    assert descriptors() == before
