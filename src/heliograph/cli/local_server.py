"""The server that a command calls: where it is, with which key, and what it says of a refusal."""

import contextlib
from collections.abc import Generator, Iterator
from typing import Annotated, Any

import httpx
from typer import Option

from heliograph.address import Address, is_loopback
from heliograph.admin_key import SECRET_KEY_FILE
from heliograph.errors import StartError
from heliograph.settings import load_settings

# A test of a channel may take three quarters of a minute.
SECONDS = 60.0

Url = Annotated[str | None, Option(help="The server; otherwise this machine's PORT.")]
Token = Annotated[
    str | None, Option(envvar="HELIOGRAPH_TOKEN", help="A session's token, instead of a key.")
]
Key = Annotated[
    str | None,
    Option(
        envvar="HELIOGRAPH_API_KEY",
        help="Admin key; otherwise, for this machine, that of the settings or the data folder.",
    ),
]


class AdminKey(httpx.Auth):
    """An admin key; `origin` says where it was found, unless it was given.

    A server has to take one that was not given: another server may run on this machine.
    """

    def __init__(self, text: str, origin: str | None = None) -> None:
        self.text = text
        self._origin = origin

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the key with a request.

        Raises:
            StartError: the server does not take it.
        """
        request.headers["X-API-Key"] = self.text
        response = yield request
        if self._origin is not None and response.status_code == httpx.codes.UNAUTHORIZED:
            raise StartError(
                f"{self._origin} is not that of the server at {response.url.host}:"
                f"{response.url.port or 80}: give this command in the server's folder, or its key"
                " as HELIOGRAPH_API_KEY"
            )


def client_options(url: str, key: AdminKey | None, token: str | None = None) -> dict[str, Any]:
    """Return for a client of httpx where the API is, and the key or the session's token to send.

    Raises:
        StartError: `url`, which was given as --url, is none.
    """
    _host_of(url)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return {"base_url": f"{url.rstrip('/')}/api/v1", "auth": key, "headers": headers}


@contextlib.contextmanager
def server_client(
    url: str | None, api_key: str | None, token: str | None
) -> Iterator[httpx.Client]:
    """Give a client of the server.

    Raises:
        StartError: it is not reached, or there is no key.
    """
    url = url or default_url("127.0.0.1")
    key = None if token is not None else url_key(api_key, url)
    try:
        with httpx.Client(**client_options(url, key, token), timeout=SECONDS) as client:
            yield client
    except httpx.HTTPError as error:
        raise StartError(f"--url {url}: {error or type(error).__name__}") from error


def answer(response: httpx.Response) -> Any:
    """Return what the server answers; None: nothing.

    Raises:
        StartError: it refuses.
    """
    if not response.is_success:
        raise StartError(refusal(response))
    return response.json() if response.content else None


def _host_of(url: str) -> str:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL as error:
        raise StartError(f"--url {url}: {error}") from error


def url_key(given: str | None, url: str) -> AdminKey:
    """Return the key for the server at a URL that was given as --url, as `admin_key` does.

    Raises:
        StartError: it is no URL, or there is no key.
    """
    return admin_key(given, _host_of(url), "HELIOGRAPH_API_KEY or HELIOGRAPH_TOKEN")


def admin_key(given: str | None, host: str, needed: str = "HELIOGRAPH_API_KEY") -> AdminKey:
    """Return the key that was given, or that of a server on this machine.

    A key of this folder's settings is not sent to a machine somewhere else. `needed` are the
    variables that would do as well.

    Raises:
        StartError: there is none.
    """
    if given:
        return AdminKey(given)
    settings = load_settings()
    if not is_loopback(host) and host != settings.host:
        raise StartError(f"{needed}: required for another machine")
    if settings.api_secret_key is not None:
        return AdminKey(settings.api_secret_key.get_secret_value(), "the API_SECRET_KEY set here")
    path = (settings.data_directory / SECRET_KEY_FILE).absolute()
    try:
        if text := path.read_text("ascii").strip():
            return AdminKey(text, f"the key in {path}")
        reason = "empty"
    except FileNotFoundError:
        reason = "not there"
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a key"
    raise StartError(
        f"there is no server's admin key in {path} ({reason}): give this command in the server's"
        f" folder, with its settings, or with {needed}"
    )


def default_url(host: str) -> str:
    """Return where a server's HTTP is: on this machine, where its settings have it listen."""
    port = 8000
    if is_loopback(host):
        settings = load_settings()
        port = settings.port
        listening = Address(settings.host, port)
        if listening.from_here == listening:
            host = settings.host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def refusal(response: httpx.Response) -> str:
    """Return the answer's detail; several problems are joined, each after where it is.

    The status alone, as HTTP calls it, where the answer is not the server's own.
    """
    try:
        detail = response.json()["detail"]
        if isinstance(detail, str):
            return detail
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in detail)
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase
