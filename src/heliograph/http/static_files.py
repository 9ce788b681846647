"""Files that are shipped beside the pages: compressed when they were built, never while served."""

import asyncio
import hashlib
from pathlib import Path
from typing import NamedTuple

from starlette.exceptions import HTTPException

from heliograph.http.answers import GUARDS, Answer, Common, lines_of
from heliograph.http.csv_answers import weights

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".ico": b"image/x-icon",
    ".js": b"text/javascript; charset=utf-8",
    ".png": b"image/png",
    ".svg": b"image/svg+xml",
    ".woff2": b"font/woff2",
}
# By the end of the file's name, what is sent if the client takes it: the smallest first.
ENCODINGS = {".br": b"br", ".gz": b"gzip"}
VARY = (b"vary", b"accept-encoding")


class Shipped(NamedTuple):
    """A file, and by the content coding where it is compressed."""

    path: Path
    encoded: dict[bytes, Path]


class Folder:
    """The files of a folder: those of a newer build as well, if it comes while we run."""

    def __init__(self, path: Path, policy: bytes, cache_control: bytes) -> None:
        self._path = path
        guards = {**dict(GUARDS), b"content-security-policy": policy}
        self._headers = ((b"cache-control", cache_control), *guards.items())
        self._files: dict[str, Shipped] = {}
        self._tags: dict[Path, bytes] = {}
        self._seen = 0

    @property
    def version(self) -> int:
        """Which build it is: another one if the folder has changed; 0: there is none."""
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    @property
    def files(self) -> dict[str, Shipped]:
        """What is served, by its path in the folder."""
        if (version := self.version) != self._seen:
            self._files = {
                path.relative_to(self._path).as_posix(): _shipped(path)
                for path in self._path.rglob("*")
                if path.suffix in MEDIA_TYPES
            }
            self._tags = {}
            self._seen = version
        return self._files

    async def answer(self, name: str, headers: dict[bytes, bytes]) -> Answer:
        """Return the file, in the smallest form that a request with these headers takes.

        Raises:
            HTTPException: 404, there is none.
        """
        shipped = self.files.get(name)
        if shipped is None:
            raise HTTPException(404)
        path, told = shipped.path, [VARY]
        accepted = weights(headers.get(b"accept-encoding", b"").decode("latin-1"))
        for coding, encoded in shipped.encoded.items():
            if accepted.get(coding.decode(), 0) > 0:
                path = encoded
                told.append((b"content-encoding", coding))
                break
        common = self._common(shipped.path.suffix)
        try:
            tag = await self._tag(path)
            told.append((b"etag", tag))
            if tag in headers.get(b"if-none-match", b""):
                return Answer(304, b"", told, common)
            return Answer(200, await asyncio.to_thread(path.read_bytes), told, common)
        except FileNotFoundError:
            # A build is taking its place.
            raise HTTPException(404) from None

    async def _tag(self, path: Path) -> bytes:
        """Return the file's entity tag, of its content."""
        if path not in self._tags:
            content = await asyncio.to_thread(path.read_bytes)
            self._tags[path] = (
                b'"%b"' % hashlib.blake2b(content, digest_size=12).hexdigest().encode()
            )
        return self._tags[path]

    def _common(self, suffix: str) -> Common:
        headers = ((b"content-type", MEDIA_TYPES[suffix]), *self._headers)
        return Common(headers, lines_of(headers))


def _shipped(path: Path) -> Shipped:
    beside = {coding: path.with_name(path.name + end) for end, coding in ENCODINGS.items()}
    return Shipped(path, {coding: each for coding, each in beside.items() if each.exists()})
