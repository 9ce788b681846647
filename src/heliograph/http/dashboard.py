"""The dashboard: one page for all its paths, and the hashed files that it is made of.

Its sources are in `web/`; `scripts/dashboard` builds them into `static/dashboard`.
"""

import functools
import hashlib
import html

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope

from heliograph.http.access import Limits, stranger
from heliograph.http.answers import GUARDS, Answer, Common, lines_of
from heliograph.http.front import Direct
from heliograph.http.static_files import STATIC, Folder

PATH = "/dashboard"
BUILT = STATIC / "dashboard"
# Nothing inline, nothing from elsewhere. `base` is where a proxy shows the server.
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    b" font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'self';"
    b" form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    *{**dict(GUARDS), b"content-security-policy": POLICY}.items(),
)
PAGE = Common(_HEADERS, lines_of(_HEADERS))
# A name of a file is made of its content.
ASSETS = Folder(BUILT, POLICY, b"public, max-age=31536000, immutable")


def dashboard(limits: Limits) -> Direct:
    """Return what answers all below `/dashboard`."""

    async def answer(scope: Scope, _receive: Receive) -> Answer:
        limits.read.take(stranger(scope), scope)
        root = scope.get("root_path", "")
        name = scope["path_params"].get("path", "")
        headers = dict(scope["headers"])
        if name in ASSETS.files or name.startswith("assets/"):
            return await ASSETS.answer(name, headers)
        try:
            body, tag = _page(root, ASSETS.version)
        except FileNotFoundError:
            # A build is taking its place.
            raise HTTPException(404) from None
        if tag in headers.get(b"if-none-match", b""):
            return Answer(304, b"", [(b"etag", tag)], PAGE)
        return Answer(200, body, [(b"etag", tag)], PAGE)

    return answer


@functools.lru_cache
def _page(root: str, _version: int) -> tuple[bytes, bytes]:
    """Return a build's page, and its entity tag, for a server that is shown in this folder."""
    template = (BUILT / "index.html").read_text("utf-8")
    body = template.replace("{root}", html.escape(root)).encode()
    return body, b'"%b"' % hashlib.blake2b(body, digest_size=12).hexdigest().encode()
