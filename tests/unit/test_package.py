"""What is installed holds everything that the program reads: queries, migrations, static files."""

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from heliograph import version
from heliograph.version import VERSION

ROOT = Path(__file__).parents[2]
BUILD_SECONDS = 120


def test_version_stands_in_one_place() -> None:
    """Poetry and others read it without building anything."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION, "run ./scripts/setup"
    assert "version" not in project.get("dynamic", [])
    literal = re.compile(rf"""["']{re.escape(VERSION)}["']""")
    sources = (ROOT / "src").rglob("*.py")
    assert [path for path in sources if literal.search(path.read_text())] == []


def build(folder: Path, target: str, result: Path, **environment: str) -> None:
    """Build there with nothing but Python and these variables."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(result)],
        cwd=folder,
        env={"PATH": str(result), **environment},
        check=True,
        capture_output=True,
        timeout=BUILD_SECONDS,
    )


def test_wheel_of_the_sdist_holds_every_file_of_the_package(tmp_path: Path) -> None:
    """Neither needs Node or Git: what the pages are made of is among the sources."""
    build(ROOT, "sdist", tmp_path, COMMIT_SHA="abc", BRANCH_NAME="main")
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    # What the sdist was made of holds, whatever the environment has by then.
    build(unpacked, "wheel", tmp_path, COMMIT_SHA="another")
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("heliograph/")}
        told = json.loads(archive.read("heliograph/built_from.json"))
    source = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "heliograph").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == source | {"heliograph/built_from.json"}
    assert told == {"commit_sha": "abc", "branch_name": "main"}
    assert any(name.endswith(".sql") for name in packed)
    assert any("/static/" in name for name in packed)


def test_an_installation_without_a_build_knows_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert version.built_from() == {}  # an editable installation
    monkeypatch.setattr(version.Path, "read_text", lambda _: '{"commit_sha": "abc"}')
    assert version.built_from() == {"commit_sha": "abc"}
