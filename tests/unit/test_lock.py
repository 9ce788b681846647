"""The locked requirements are those of pyproject.toml, whole, and each has its hashes."""

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.txt", "requirements-dev.txt")
PIN = re.compile(
    r"^([A-Za-z0-9._-]+)(?:\[([A-Za-z0-9._,-]+)\])?==([^ \\]+)(?: ; [^\\\n]+)?"
    r"((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$",
    re.MULTILINE,
)
# Where one lock has to do: what a package needs may depend on any of these.
ENVIRONMENTS = [
    {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": system,
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": system.lower(),
    }
    for python in ("3.11", "3.12", "3.13")
    for system, machine in (
        ("Linux", "x86_64"),
        ("Linux", "aarch64"),
        ("Linux", "armv7l"),
        ("Darwin", "arm64"),
        ("Darwin", "x86_64"),
    )
]


class Pin(NamedTuple):
    """A line of the lock."""

    version: str
    extras: set[str]
    hashes: int


def pins(name: str) -> dict[str, Pin]:
    """Return, by package, what is locked, with which extras, and how many files have a hash."""
    return {
        canonicalize_name(package): Pin(
            version, {canonicalize_name(extra) for extra in extras.split(",") if extra}, hashes
        )
        for package, extras, version, hashes in (
            (found[1], found[2] or "", found[3], found[4].count("sha256"))
            for found in PIN.finditer((ROOT / name).read_text())
        )
    }


def requirements(*, development: bool) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    texts = list(project["project"]["dependencies"])
    if development:
        texts += project["dependency-groups"]["dev"] + project["build-system"]["requires"]
        texts += [
            text for extra in project["project"]["optional-dependencies"].values() for text in extra
        ]
    return [Requirement(text) for text in texts]


def unmet(requirement: Requirement, pinned: dict[str, Pin]) -> str | None:
    """Return why pip would have to resolve the requirement; None: it is locked."""
    pin = pinned.get(canonicalize_name(requirement.name))
    if pin is None:
        return f"{requirement}: not locked"
    if not requirement.specifier.contains(pin.version, prereleases=True):
        return f"{requirement}: locked is {pin.version}"
    if missing := {canonicalize_name(extra) for extra in requirement.extras} - pin.extras:
        # An older pip takes the one without the extra for another requirement, with no pin.
        return f"{requirement}: locked without {', '.join(sorted(missing))}"
    return None


def needs(requirement: Requirement) -> Iterator[Requirement]:
    """Yield what the package needs in any of the environments, with the extras asked for."""
    extras = ["", *requirement.extras]
    for text in metadata.requires(requirement.name) or []:
        needed = Requirement(text)
        if needed.marker is None or any(
            needed.marker.evaluate({**environment, "extra": extra})
            for environment in ENVIRONMENTS
            for extra in extras
        ):
            yield needed


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_satisfies_the_project(lock: str) -> None:
    pinned = pins(lock)
    found = [unmet(needed, pinned) for needed in requirements(development=lock == LOCKS[1])]
    assert [f"{reason}; run ./scripts/lock" for reason in found if reason] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_whatever_a_locked_package_needs_is_locked_with_the_extras_it_is_needed_with(
    lock: str,
) -> None:
    """Nothing is left to resolve on any Python or system that is supported."""
    pinned = pins(lock)
    waiting = requirements(development=lock == LOCKS[1])
    seen: set[tuple[str, frozenset[str]]] = set()
    problems = []
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        if reason := unmet(requirement, pinned):
            problems.append(reason)
            continue
        installed = metadata.version(requirement.name)
        assert installed == pinned[key[0]].version, f"{key[0]}: run ./scripts/setup"
        for needed in needs(requirement):
            if reason := unmet(needed, pinned):
                problems.append(f"{requirement.name} needs {reason}")
            else:
                waiting.append(needed)
    assert sorted(problems) == []
    assert {name for name, _ in seen} >= set(pinned), "nothing needs these"


def private_parts() -> set[str]:
    """Return the packages whose inner modules ours are made of: they may change at any time."""
    inner = ("uvicorn.protocols.", "websockets.")
    texts = [path.read_text() for path in (ROOT / "src").rglob("*.py")]
    return {
        node.module.partition(".")[0]
        for text in texts
        # To parse all modules takes a second.
        if any(name in text for name in inner)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(inner)
    }


def test_what_is_made_of_private_parts_has_an_upper_bound() -> None:
    ours = {canonicalize_name(needed.name): needed for needed in requirements(development=False)}
    packages = private_parts()
    assert packages == {"uvicorn", "websockets"}
    unbounded = [
        name for name in packages if not any(part.operator == "<" for part in ours[name].specifier)
    ]
    assert unbounded == []


def test_every_dependency_has_a_lower_bound() -> None:
    """`scripts/bounds` starts the server with just these."""
    unbounded = [
        str(needed)
        for needed in requirements(development=False)
        if not any(part.operator == ">=" for part in needed.specifier)
    ]
    assert unbounded == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_the_lock_is_a_pin_with_hashes(lock: str) -> None:
    text = (ROOT / lock).read_text()
    left_over = [
        line
        for line in PIN.sub("", text).splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    assert left_over == []
    assert [name for name, pin in pins(lock).items() if pin.hashes == 0] == []


def test_both_locks_agree() -> None:
    runtime, development = (pins(lock) for lock in LOCKS)
    assert runtime
    assert {name: development.get(name) for name in runtime} == runtime


@pytest.mark.parametrize("package", ["asyncpg", "httptools", "msgspec", "uvloop"])
def test_compiled_packages_are_locked_for_every_machine(package: str) -> None:
    # A lone wheel and a source archive would be two: the lock was made for one machine only.
    assert pins("requirements.txt")[package].hashes > 4
