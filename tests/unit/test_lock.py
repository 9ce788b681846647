"""The locked requirements are those of pyproject.toml, and each has its hashes."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.txt", "requirements-dev.txt")
PIN = re.compile(
    r"^([A-Za-z0-9._-]+)==([^ \\]+)((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$", re.MULTILINE
)


def pins(name: str) -> dict[str, tuple[str, int]]:
    """Return, by package, the locked version and how many files of it have a hash."""
    text = (ROOT / name).read_text()
    return {
        canonicalize_name(package): (version, hashes.count("sha256"))
        for package, version, hashes in PIN.findall(text)
    }


def requirements(*, development: bool) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    texts = list(project["project"]["dependencies"])
    if development:
        texts += project["dependency-groups"]["dev"] + project["build-system"]["requires"]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_satisfies_the_project(lock: str) -> None:
    pinned = pins(lock)
    unsatisfied = [
        f"{requirement}: locked is {version}; run ./scripts/lock"
        for requirement in requirements(development=lock == LOCKS[1])
        for version in [pinned.get(canonicalize_name(requirement.name), ("nothing", 0))[0]]
        if version == "nothing" or not requirement.specifier.contains(version, prereleases=True)
    ]
    assert unsatisfied == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_the_lock_is_a_pin_with_hashes(lock: str) -> None:
    text = (ROOT / lock).read_text()
    left_over = [
        line
        for line in PIN.sub("", text).splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    assert left_over == []
    assert [name for name, (_, hashes) in pins(lock).items() if hashes == 0] == []


def test_both_locks_agree() -> None:
    runtime, development = (pins(lock) for lock in LOCKS)
    assert runtime
    assert {name: development.get(name) for name in runtime} == runtime


@pytest.mark.parametrize("package", ["asyncpg", "httptools", "msgspec", "mqtt5", "uvloop"])
def test_compiled_packages_are_locked_for_every_machine(package: str) -> None:
    # A lone wheel and a source archive would be two: the lock was made for one machine only.
    assert pins("requirements.txt")[package][1] > 4
