"""DATABASE_URL: which engine, and where."""

import dataclasses
import os
import urllib.parse
from pathlib import Path

from heliograph.errors import StartError

SQLITE = ("sqlite", "sqlite+aiosqlite")
POSTGRESQL = ("postgresql", "postgresql+asyncpg", "postgresql+psycopg", "postgres")
_FORMS = "sqlite:///./heliograph.db or postgresql://user:password@host/database"

# libpq's own parameters, which asyncpg would pass on to a server that knows none of them.
_ONLY_LIBPQ = frozenset(
    {
        "channel_binding",
        "connect_timeout",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """Where the data are: a SQLite file's path, or a PostgreSQL address.

    Attributes:
        is_sqlite: Which of the two.
        path: The SQLite file, absolute.
        dsn: The PostgreSQL address as asyncpg takes it.
        libpq: The PostgreSQL address as libpq takes it.
        public: What may be shown: no password.
    """

    is_sqlite: bool
    path: Path = Path()
    dsn: str = ""
    libpq: str = ""
    public: str = ""

    @property
    def place(self) -> str:
        """What people may be shown: the file's path, or the address."""
        return str(self.path) if self.is_sqlite else self.public


def parse_database_url(text: str) -> DatabaseUrl:
    """Return what a DATABASE_URL says.

    Relative paths are relative to the working folder, as SQLAlchemy has it.

    Raises:
        StartError: it is of no known form; the message doesn't repeat it, for its password.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        raise StartError(f"DATABASE_URL is not a URL: write {_FORMS}")
    if scheme in SQLITE:
        return _sqlite(rest)
    if scheme in POSTGRESQL:
        return _postgresql(rest)
    raise StartError(f"DATABASE_URL names no known database ({scheme}): write {_FORMS}")


def no_database(url: DatabaseUrl) -> StartError:
    """Return what to say where a command that makes no database finds none."""
    return StartError(
        f"DATABASE_URL: there is no database of Heliograph at {url.place}: give this command in the"
        " server's folder, or with its settings; heliograph serve, or migrate, makes a new one"
    )


def _sqlite(rest: str) -> DatabaseUrl:
    name = urllib.parse.unquote(rest.partition("?")[0])
    if not name.startswith("/") or name in {"/", "/:memory:"} or name.endswith("/"):
        raise StartError("DATABASE_URL must name a file: sqlite:///./heliograph.db")
    # SQLite has its log beside the file itself, not beside a link to it.
    path = Path(os.path.realpath(name[1:]))
    return DatabaseUrl(is_sqlite=True, path=path, public=f"sqlite:///{path}")


def _postgresql(rest: str) -> DatabaseUrl:
    try:
        parts = urllib.parse.urlsplit(f"postgresql://{rest}")
        given = urllib.parse.parse_qsl(parts.query, strict_parsing=bool(parts.query))
        place = parts.netloc.rpartition("@")[2]
        _ = parts.port if "," not in place else None
    except ValueError as error:
        raise StartError(f"DATABASE_URL is malformed: write {_FORMS}") from error
    # `ssl` is what SQLAlchemy's asyncpg driver calls `sslmode`.
    query = {"sslmode" if key == "ssl" else key: value for key, value in given}
    ours = {key: value for key, value in query.items() if key not in _ONLY_LIBPQ}
    return DatabaseUrl(
        is_sqlite=False,
        dsn=_compose(parts, ours),
        libpq=_compose(parts, query),
        public=f"postgresql://{place}{parts.path}",
    )


def _compose(parts: urllib.parse.SplitResult, query: dict[str, str]) -> str:
    encoded = urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
    return f"postgresql://{parts.netloc}{parts.path}{'?' if encoded else ''}{encoded}"
