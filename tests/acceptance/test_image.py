"""The container image, built and started without an engine or a registry.

Debian's debootstrap makes a base, which buildah tags as the base image's name and builds on, with
packages that were downloaded before. What the image holds is served from a chroot.
"""

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ports import free_port
from server import ADMIN_KEY

ROOT = Path(__file__).parents[2]
BASE = re.search(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
SECONDS = 900
# What is pulled: 101 MiB when it was measured, 300 MiB unpacked.
LARGEST_BYTES = 200 << 20
USER = "10001:10001"


def run(*command: str, **environment: str) -> str:
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
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build the image as ./scripts/build does; return its root, mounted."""
    folder = tmp_path_factory.mktemp("image")
    missing = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if missing:
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)
    base, wheels = folder / "base", folder / "wheels"
    packages = "--include=python3,python3-venv,ca-certificates"
    run("debootstrap", "--variant=minbase", packages, "bookworm", str(base))
    for path in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
        shutil.rmtree(base / path)
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
    )
    container = run(*buildah, "from", "--pull-never", "localhost/heliograph")
    try:
        yield Path(run(*buildah, "mount", container))
    finally:
        run(*buildah, "umount", container)


@contextlib.contextmanager
def served(image: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serve from the image as the user that it names."""
    environment = {
        "PATH": "/opt/heliograph/bin:/usr/bin:/bin",
        "APP_ENV": "production",
        "API_SECRET_KEY": ADMIN_KEY,
        "DATA_DIRECTORY": "/var/lib/heliograph",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "MQTT_LISTEN": f"127.0.0.1:{free_port()}",
    }
    command = "cd /var/lib/heliograph && exec heliograph serve"
    chroot = shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin")
    assert chroot is not None
    with subprocess.Popen(
        [chroot, f"--userspec={USER}", str(image), "/bin/sh", "-c", command],
        env=environment,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while True:
                assert process.poll() is None
                assert time.monotonic() < deadline
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                        break
                time.sleep(0.1)
            yield process
        finally:
            process.kill()


@pytest.mark.long
def test_the_image_serves_and_keeps_a_reading_over_a_kill(image, tmp_path):
    port = free_port()
    url, admin = f"http://127.0.0.1:{port}", {"X-API-Key": ADMIN_KEY}
    with served(image, port) as process:
        made = httpx.post(f"{url}/devices", headers=admin, json={"device_id": "d"}).json()
        key = {"X-API-Key": made["api_key"]}
        assert httpx.post(f"{url}/ingest", headers=key, json={"t": 22.5}).status_code == 201
        assert httpx.get(f"{url}/status").json()["commit_sha"] == "abc"
        process.kill()
    with served(image, port):
        (reading,) = httpx.get(f"{url}/devices/d/history", headers=admin).json()
        assert reading["metrics"] == {"t": 22.5}
    # Nothing but its own folder belongs to the user.
    packed = tmp_path / "image.tar.gz"
    run("tar", "--create", "--gzip", "--file", str(packed), "--directory", str(image), "opt", "usr")
    assert packed.stat().st_size < LARGEST_BYTES
    assert not list((image / "opt").rglob("pip"))
