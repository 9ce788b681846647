"""`python -m bench.footprint`: what the server takes of a small machine.

The packages that are installed with it (without extras) by size, with what Python has compiled of
them, and its memory at rest. What it writes for a message is `mqtt-sqlite-history-written`.
"""

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import heliograph
from bench.scale import QUICK
from bench.sides import Workbench

LARGEST = 15


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


def installed_bytes(name: str) -> int:
    """Return the size of a package's files."""
    if name == "heliograph":
        # The package itself: of a checkout that is installed in place no files are listed.
        own = Path(heliograph.__file__).parent.rglob("*")
        return sum(path.stat().st_size for path in own if path.is_file())
    total = 0
    for file in importlib.metadata.files(name) or ():
        path = file.locate()
        if path.is_file():
            total += path.stat().st_size
    return total


def main() -> None:
    """Measure and print."""
    sizes = {name: installed_bytes(name) for name in required("heliograph")}
    print(f"installed: {sum(sizes.values()) / (1 << 20):.0f} MiB in {len(sizes)} packages")
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True)[:LARGEST]:
        print(f"    {name:<20} {sizes[name] / (1 << 20):6.1f} MiB")
    with Workbench(QUICK) as bench, bench.server("sqlite", QUICK.none) as side:
        print(
            f"memory at rest: {side.process.proportional_mebibytes():.0f} MiB proportional (PSS),"
            f" {side.process.resident_mebibytes():.0f} MiB resident"
        )


if __name__ == "__main__":
    main()
