"""The container image, built and started without an engine or a registry.

Debian's debootstrap makes a base, which buildah tags as the base image's name and builds on, with
packages that were downloaded before. What the image holds is served from a chroot that is read-only
but for the volume and /tmp.
"""

import contextlib
import faulthandler
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from ports import free_port
from server import ADMIN_KEY

ROOT = Path(__file__).parents[2]
BASE = re.search(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
SECONDS = 900
# Unpacked, as engines count it.
LARGEST_BYTES = 200 << 20
USER = 10001
# What everybody may write to, as on every Debian, with a sticky bit; read-only where it matters.
OPEN = ["run/lock", "tmp", "var/tmp"]
# `unshare` lets the mounts end with what is run.
CHROOT = """
root=$1 volume=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount --bind "$volume" "$root/var/lib/heliograph"
mount -t tmpfs none "$root/tmp"
exec /usr/sbin/chroot --userspec=USER:USER "$root" "$@"
"""


class Image(NamedTuple):
    """Where it is mounted, and what an engine is told of it."""

    root: Path
    config: dict[str, Any]

    def command(self, volume: Path, *arguments: str) -> list[str]:
        """Return what runs this within, from the volume's folder, as the user that it names."""
        assert self.config["User"] == "heliograph"
        within = ("/bin/sh", "-c", 'cd /var/lib/heliograph && exec "$0" "$@"')
        script = CHROOT.replace("USER", str(USER))
        start = ("unshare", "--mount", "/bin/sh", "-euc", script, "sh")
        return [*start, str(self.root), str(volume), *within, *arguments]

    def environment(self, port: int) -> dict[str, str]:
        """Return the variables that an engine sets, and an operator."""
        return {
            **dict(variable.split("=", 1) for variable in self.config["Env"]),
            "API_SECRET_KEY": ADMIN_KEY,
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "MQTT_LISTEN": f"127.0.0.1:{free_port()}",
        }


def run(*command: str, **environment: str) -> str:
    # All of it takes longer than a test may on a busy machine: each step has a time of its own.
    faulthandler.dump_traceback_later(SECONDS + 60, exit=True, file=sys.__stderr__)
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout[-2_000:], done.stderr[-2_000:])
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Build the image as ./scripts/build does, and mount it."""
    folder = tmp_path_factory.mktemp("image")
    missing = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if missing:
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)
    base, wheels = folder / "base", folder / "wheels"
    packages = "--include=python3,python3-venv,ca-certificates"
    run("debootstrap", "--variant=minbase", packages, "bookworm", str(base))
    download = (sys.executable, "-m", "pip", "download", "-q", "--only-binary", ":all:")
    run(*download, "--no-deps", "--dest", str(wheels), "--requirement", "requirements.txt")
    hatchling = f"hatchling=={importlib.metadata.version('hatchling')}"
    run(*download, "--dest", str(wheels), hatchling)
    store = f"--root={folder}/store --runroot={folder}/run --storage-driver=vfs"
    buildah = ("buildah", *store.split())
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY base /\n")
    chroot = ("--isolation", "chroot", "--pull-never")
    run(*buildah, "bud", *chroot, "--tag", BASE, str(folder))
    run(
        *("./scripts/build", *chroot, "--volume", f"{wheels}:/wheels:ro"),
        *("--build-arg", "PIP_NO_INDEX=1", "--build-arg", "PIP_FIND_LINKS=/wheels"),
        ENGINE=" ".join(buildah),
        COMMIT_SHA="abc",
        BRANCH_NAME="river",
    )
    told = run(*buildah, "inspect", "--type", "image", "localhost/heliograph")
    container = run(*buildah, "from", "--pull-never", "localhost/heliograph")
    try:
        root = Path(run(*buildah, "mount", container))
        yield Image(root, json.loads(told)["Docker"]["config"])
    finally:
        run(*buildah, "umount", container)


@contextlib.contextmanager
def served(image: Image, volume: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serve from the image, as an engine would, until the `with` statement ends."""
    arguments = [*image.config["Entrypoint"], *image.config["Cmd"]]
    with subprocess.Popen(
        image.command(volume, *arguments),
        env=image.environment(port),
        stderr=(volume.parent / "said").open("ab"),
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while True:
                assert process.poll() is None, (volume.parent / "said").read_text()[-2_000:]
                assert time.monotonic() < deadline
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                        break
                time.sleep(0.1)
            yield process
        finally:
            process.kill()


def healthy(image: Image, volume: Path, port: int) -> bool:
    """Ask as the engine does each half minute."""
    kind, *check = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    done = subprocess.run(
        image.command(volume, *check),
        env=image.environment(port),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.long
def test_the_image_serves_and_keeps_a_reading_over_a_kill(image, tmp_path):
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o750)
    os.chown(volume, USER, USER)
    port = free_port()
    url, admin = f"http://127.0.0.1:{port}", {"X-API-Key": ADMIN_KEY}
    assert not healthy(image, volume, port)
    with served(image, volume, port) as process:
        assert healthy(image, volume, port)
        made = httpx.post(f"{url}/devices", headers=admin, json={"device_id": "d"}).json()
        key = {"X-API-Key": made["api_key"]}
        assert httpx.post(f"{url}/ingest", headers=key, json={"t": 22.5}).status_code == 201
        status = httpx.get(f"{url}/status").json()
        assert (status["commit_sha"], status["branch_name"]) == ("abc", "river")
        process.kill()
    with served(image, volume, port):
        (reading,) = httpx.get(f"{url}/devices/d/history", headers=admin).json()
        assert reading["metrics"] == {"t": 22.5}


@pytest.mark.long
def test_the_image_holds_what_the_server_needs_and_no_more(image):
    found = [path for path in image.root.rglob("*") if not path.is_symlink()]
    held = [path for path in found if path.is_file() or path.is_dir()]
    files = {path.stat().st_ino: path.stat().st_size for path in held if path.is_file()}
    mebibytes = sum(files.values()) / (1 << 20)
    print(f"{mebibytes:.0f} MiB")
    assert sum(files.values()) <= LARGEST_BYTES, f"{mebibytes:.0f} MiB"
    # Nothing but its own folder belongs to the user, and nothing lends them another's rights.
    own = [path for path in held if USER in (path.stat().st_uid, path.stat().st_gid)]
    assert own == [image.root / "var/lib/heliograph"]
    assert not [path for path in held if path.is_file() and path.stat().st_mode & 0o6000]
    others = [path for path in held if path.stat().st_mode & 0o002]
    assert sorted(str(path.relative_to(image.root)) for path in others) == OPEN
    programs = {path.name for path in held if path.is_file() and path.stat().st_mode & 0o111}
    assert {"dash", "heliograph"} <= programs
    assert not programs & {"apt-get", "cc", "mount", "perl", "pip", "pip3", "strip"}
    # A start compiles none of these: it could not keep it.
    for module in ("asyncio/base_events", "fastapi/routing", "heliograph/server"):
        package, name = module.split("/")
        assert list(image.root.rglob(f"{package}/__pycache__/{name}.*.pyc")), module
