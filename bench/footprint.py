"""`python -m bench.footprint`: what the server takes of a small machine.

The packages that are installed with it (without extras) by size, with what Python has compiled of
them; the CPU time of a start until it takes data; its memory at rest. What it writes for a message
is `mqtt-sqlite-history-written`.
"""

import importlib.metadata
import importlib.util
import marshal
import re
import socket
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import heliograph
from bench.processes import START_TIMEOUT, Measured
from bench.scale import QUICK
from bench.sides import ADMIN_KEY, Workbench
from bench.stored_rows import COMMAND, server_environment

LARGEST = 15
STARTS = 12
# What the file system of a small machine hands out.
BLOCK = 4_096
PYC_HEADER = 16


class Size(NamedTuple):
    """What files take."""

    on_disk: int
    length: int

    @classmethod
    def of(cls, files: Iterable[Path]) -> "Size":
        """Return the sizes of files and of what Python makes of them, without their folders."""
        kept = [path for path in files if path.suffix != ".pyc" and path.is_file()]
        lengths = [path.stat().st_size for path in kept]
        lengths += [compiled_length(path) for path in kept if path.suffix == ".py"]
        return cls(sum(-(-length // BLOCK) * BLOCK for length in lengths), sum(lengths))


def required(name: str) -> set[str]:
    """Return the names of a package and of all that it requires here, without extras."""
    found: set[str] = set()
    pending = [name]
    while pending:
        current = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if current in found:
            continue
        try:
            requirements = importlib.metadata.requires(current) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system or another Python
        found.add(current)
        pending += _names(requirements)
    return found


def _names(requirements: list[str]) -> Iterator[str]:
    for requirement in requirements:
        wanted, _, marker = requirement.partition(";")
        if "extra ==" in marker:
            continue
        name, extras = re.match(r"([\w.-]+)\s*(?:\[([\w,\s.-]+)\])?", wanted).groups()  # type: ignore[union-attr] - a requirement begins with a name
        yield name
        # Of psycopg[binary], psycopg-binary: an extra that is named is wanted.
        for extra in (extras or "").split(","):
            if extra:
                yield f"{name}-{extra.strip()}"


def compiled_length(path: Path) -> int:
    """Return how long a module is as pip compiles it; 0: a template for other Python."""
    compiled = Path(importlib.util.cache_from_source(path))
    if compiled.exists():
        return compiled.stat().st_size
    try:
        code = compile(path.read_bytes(), path, "exec", dont_inherit=True)
    except SyntaxError:
        return 0
    return PYC_HEADER + len(marshal.dumps(code))


def installed(name: str) -> Size:
    """Return the size of a package's files."""
    if name == "heliograph":
        # The package itself: of a checkout that is installed in place no files are listed.
        return Size.of(Path(heliograph.__file__).parent.rglob("*"))
    files = importlib.metadata.files(name) or ()
    return Size.of(Path(str(file.locate())) for file in files)


def start_seconds() -> list[float]:
    """Return the CPU seconds of starts on SQLite, each until it tells systemd that it is ready."""
    with (
        tempfile.TemporaryDirectory(prefix="heliograph-bench-") as name,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
    ):
        folder = Path(name)
        told.bind(str(folder / "notify"))
        told.settimeout(START_TIMEOUT)
        environment = server_environment(
            API_SECRET_KEY=ADMIN_KEY,
            DATA_DIRECTORY=name,
            HOST="127.0.0.1",
            PORT="0",
            MQTT_LISTEN="127.0.0.1:0",
            NOTIFY_SOCKET=str(folder / "notify"),
        )
        seconds = []
        # The first one makes the database, and compiles.
        for _ in range(1 + STARTS):
            process = Measured(
                [COMMAND, "serve"], folder / "log", folder=folder, environment=environment
            )
            try:
                while told.recv(100) != b"READY=1":
                    pass  # what the one before said of its end
                seconds.append(process.cpu_seconds())
            finally:
                process.stop()
        return seconds[1:]


def _mebibytes(size: Size) -> str:
    return f"{size.on_disk / (1 << 20):6.1f} MiB"


def main() -> None:
    """Measure and print."""
    sizes = {name: installed(name) for name in required("heliograph")}
    total = Size(*map(sum, zip(*sizes.values(), strict=True)))
    print(
        f"installed: {_mebibytes(total).lstrip()} in blocks of {BLOCK:,} bytes,"
        f" {total.length / (1 << 20):.1f} MiB of content, in {len(sizes)} packages"
    )
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True)[:LARGEST]:
        print(f"    {name:<20} {_mebibytes(sizes[name])}")
    seconds = start_seconds()
    print(
        f"start on SQLite: {min(seconds):.2f} s of CPU at least,"
        f" {statistics.median(seconds):.2f} in the middle of {STARTS}"
    )
    with Workbench(QUICK) as bench, bench.server("sqlite", QUICK.none) as side:
        print(
            f"memory at rest: {side.process.proportional_mebibytes():.0f} MiB proportional (PSS),"
            f" {side.process.resident_mebibytes():.0f} MiB resident"
        )


if __name__ == "__main__":
    main()
