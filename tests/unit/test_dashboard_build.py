"""The dashboard that is committed is built from the sources that are, and is small."""

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
STATIC = ROOT / "src/heliograph/http/static"
BUILT = STATIC / "dashboard"
FIRST_LOAD_BYTES = 120_000
SOURCES = re.compile(r"(src|public)/.*\.\w+|index\.html|[\w.-]+\.(ts|json|mjs)")
# What is made from the server while it is built, and what only looks.
LEFT_OUT = {"src/api/schema.d.ts", "src/api/schema.json", "biome.json"}


def test_the_build_is_of_these_sources() -> None:
    digest = hashlib.sha256()
    names = {
        path.relative_to(WEB).as_posix()
        for path in (*WEB.glob("*"), *WEB.glob("src/**/*"), *WEB.glob("public/**/*"))
        if path.is_file()
    }
    for name in sorted(names - LEFT_OUT):
        if SOURCES.fullmatch(name):
            digest.update(f"{name}\0".encode() + (WEB / name).read_bytes() + b"\0")
    built_from = json.loads((BUILT / "build.json").read_text())["sources"]
    assert built_from == digest.hexdigest(), "run ./scripts/dashboard, and commit what it builds"


def test_the_first_page_is_small() -> None:
    page = (BUILT / "index.html").read_text()
    linked = re.findall(r'(?:src|href)="\./([^"]+)"', page)
    assert len(linked) >= 3
    sizes = {name: len(gzip.compress((BUILT / name).read_bytes())) for name in linked}
    assert sum(sizes.values()) < FIRST_LOAD_BYTES, sizes


def test_what_is_large_is_compressed_beside() -> None:
    files = [path for path in STATIC.rglob("*") if path.suffix in (".js", ".css")]
    large = [path for path in files if path.stat().st_size > 512]
    assert len(large) >= 5
    for path in large:
        assert gzip.decompress(Path(f"{path}.gz").read_bytes()) == path.read_bytes(), path
        assert Path(f"{path}.br").stat().st_size < path.stat().st_size / 2 + 100, path


@pytest.mark.parametrize("folder", ["web", "web-assets"])
def test_packages_are_pinned_and_their_lock_names_no_registry(folder: str) -> None:
    package = json.loads((ROOT / folder / "package.json").read_text())
    versions = {**package["dependencies"], **package.get("devDependencies", {})}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values()), versions
    lock = json.loads((ROOT / folder / "package-lock.json").read_text())["packages"]
    assert [name for name, entry in lock.items() if "resolved" in entry] == []
    named = lock[""]["dependencies"] | lock[""].get("devDependencies", {})
    assert named == versions
    # `npm ci` refuses a lock that lacks what it names, were it for another system alone.
    locked = {name.rpartition("node_modules/")[2] for name in lock}
    required = {
        name
        for entry in lock.values()
        for kind in ("dependencies", "optionalDependencies")
        for name in entry.get(kind, {})
    }
    assert required - locked == set()
