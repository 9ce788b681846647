"""What is installed holds everything that the program reads: queries, migrations, static files."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

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


def test_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=BUILD_SECONDS,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("heliograph/")}
    source = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "heliograph").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == source
    assert any(name.endswith(".sql") for name in packed)
    assert any("/static/" in name for name in packed)
