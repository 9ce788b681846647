"""All settings, typed and checked, in one class."""

import re
from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from heliograph.address import Address, is_loopback, is_mailbox, parse_address
from heliograph.broker_url import parse_broker_url
from heliograph.database_url import POSTGRESQL, SQLITE
from heliograph.destinations import Destination, parse_destination
from heliograph.environment import Mistyped, mistyped, read_variables
from heliograph.errors import StartError
from heliograph.log_areas import parse_level
from heliograph.masking import MASK, mask_text
from heliograph.model.account import USERNAME_RULE, is_username
from heliograph.model.credentials import LONGEST_PASSWORD as LONGEST
from heliograph.model.credentials import SHORTEST_PASSWORD as SHORTEST
from heliograph.model.credentials import is_guessable, weakness
from heliograph.model.retention import Retention
from heliograph.model.time import HOUR
from heliograph.secrets import (
    MAKE_ONE,
    Secrets,
    UndecipherableError,
    ensure_secrets,
    find_secrets,
    is_encrypted,
)

# What can change while the server runs, by what has to take note of it.
OF_LOGS = ("log_level", "log_levels", "log_format", "log_file", "log_file_size", "log_file_count")
OF_PROCESSING = ("processing_interval",)
OF_RATES = (
    *("rate_limit_read", "rate_limit_write", "rate_limit_ingest"),
    *("rate_limit_mqtt", "rate_limit_failed_logins"),
)
OF_KEEPING = (
    *("retention_days", "rollup_retention_days", "log_retention_days"),
    *("rejected_per_source_per_hour", "rejected_max_bytes", "disk_budget", "pack_after"),
)
OF_NOTICES = (
    *("notice_window", "notices_per_hour", "smtp_host", "smtp_port", "smtp_security"),
    *("smtp_username", "smtp_password", "smtp_sender"),
)
# Of those that can change what no log may hold.
OF_SECRETS = ("metrics_token", "broker_auth_key", "heartbeat_url", "smtp_password")
OF_STREAMS = ("max_streams", "max_streams_per_principal")
# Not with an external broker, which has subscriptions and access rules of its own.
OF_TOPICS = ("mqtt_publish_topic", "mqtt_subscribe_topic")
# What is asked for each time.
OF_EACH_TIME = (
    *("rejected_retention_days", "audit_days", "session_days", "allow_signup"),
    *("metrics_token", "broker_auth_key", "broker_auth_networks", "heartbeat_url"),
)

SHORTEST_PRODUCTION_KEY = 16
# So that a script is ended by its own time-out, and not as an action that takes too long.
LONGEST_SCRIPT_SECONDS = 40

# An empty text means something of its own here; everywhere else it means the default.
_EMPTY_IS_A_VALUE = frozenset({"MQTT_LISTEN"})

_SENSOR_TOPICS = (
    "measurements",
    "log-messages",
    "logs",
    "heartbeats",
    "acknowledgments",
    "configurations",
    "status",
)
_DATABASES = (*SQLITE, *POSTGRESQL)

_LABEL = "[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")

_ORIGIN = re.compile(rf"https?://({_LABEL}(\.{_LABEL})*|\[[0-9a-f:.]+\])(:\d{{1,5}})?")
# Below /api/v1 it could not be told from the interface's own paths.
_FOLDER = r"(?!/api/v1(/|$))(/[A-Za-z0-9._~-]*[A-Za-z0-9_~-])*"


def split(value: Any) -> Any:
    """Return the distinct parts of a comma-separated text, in order; anything else as it is."""
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(part for text in value.split(",") if (part := text.strip())))


def lower(value: Any) -> Any:
    """Return a text in lower case; anything else as it is."""
    return value.lower() if isinstance(value, str) else value


def _matching(pattern: str, rule: str) -> AfterValidator:
    """Return what refuses a text, or a secret, that the pattern does not match."""

    def check(value: Any) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not re.fullmatch(pattern, text):
            raise ValueError(f"should be {rule}")
        return value

    return AfterValidator(check)


def is_there(path: Path, *, folder: bool = False) -> bool:
    """Return whether there is such a file, or folder; what can't be looked at is none."""
    try:
        return path.is_dir() if folder else path.is_file()
    except OSError:
        return False


def _addresses(value: Any) -> Any:
    return tuple(map(parse_address, split(value))) if isinstance(value, str) else value


def _networks(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return tuple(map(ip_network, split(value)))
    except ValueError as error:
        raise ValueError(f"{error}; allowed: like 127.0.0.1, 10.0.0.0/8") from error


def _host_names(value: Any) -> Any:
    names = split(lower(value))
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(
                f"{name[:60]!r} is no host name; allowed: like heliograph.example.org or"
                " *.example.org"
            )
    return names


def _origins(value: Any) -> Any:
    origins = split(lower(value))
    for origin in origins:
        if origin in ("*", "null"):
            raise ValueError(f"{origin} is refused, since it would let any page in; name origins")
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin[:60]!r} is no origin; allowed: like https://app.example.org or"
                " http://localhost:3000, without a path"
            )
    # As browsers send it: without the port that its scheme has.
    return tuple(
        re.sub("(?<=^http)(://.*):80$|(?<=^https)(://.*):443$", r"\1\2", o) for o in origins
    )


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?))?b?", value.strip().lower())
    if not found:
        raise ValueError(
            f"should be a number of bytes like 500MB, 10GB or 1.5GiB, not {value[:60]!r}"
        )
    power = " kmgtp".index(found[2] or " ")
    return round(float(found[1]) * (1_024 if found[3] else 1_000) ** power)


def _age(value: str) -> str:
    text = value.strip().lower()
    found = re.fullmatch(r"(\d{1,6})\s*([hd])", text)
    if text != "never" and (not found or not 2 <= _hours(text) <= 876_000):
        raise ValueError("should be never, or at least 2h, like 26h or 30d")
    return text


def _hours(text: str) -> int:
    return int(text[:-1]) * (24 if text.endswith("d") else 1)


def _destinations(value: Any) -> Any:
    return tuple(map(parse_destination, split(value))) if isinstance(value, str) else value


def _web_address(value: SecretStr) -> SecretStr:
    # What is wrong with it is not shown: that could be a part of a password.
    text = value.get_secret_value()
    rule = "should be a URL like https://example.org/path"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(rule) from None
    if (
        parts.scheme not in ("http", "https")
        or not host
        or not re.fullmatch(r"[!-~]{1,2048}", text)
    ):
        raise ValueError(rule)
    return value


def _redis(url: str) -> str:
    # What is wrong with it is not shown: that could be a part of a password.
    rule = "should be like redis://host:6379/0 or, for TLS, rediss://user:password@host:6379/0"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(rule) from None
    if (
        parts.scheme not in ("redis", "rediss")
        or not host
        or port == 0
        or not re.fullmatch(r"(/\d{0,4})?", parts.path)
        or parts.query
        or parts.fragment
    ):
        raise ValueError(rule)
    return url


def _levels(value: Any) -> Any:
    return tuple(map(parse_level, split(value))) if isinstance(value, str) else value


HostNames = Annotated[tuple[str, ...], BeforeValidator(_host_names)]
Origins = Annotated[tuple[str, ...], BeforeValidator(_origins)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_networks)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(_addresses)]
Destinations = Annotated[tuple[Destination, ...], BeforeValidator(_destinations)]
Bound = Annotated[int, Field(ge=0, le=1_000_000)]
PerMinute = Annotated[int, Field(ge=0, le=100_000_000)]
Days = Annotated[int, Field(ge=0, le=36_500)]
Age = Annotated[str, AfterValidator(_age)]
Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=0, le=1 << 60)]
# What an HTTP header can carry.
Key = Annotated[
    SecretStr, _matching(r"[!-~]{1,256}", "1 to 256 visible ASCII characters without spaces")
]
RedisUrl = Annotated[str, AfterValidator(_redis)]
WebAddress = Annotated[SecretStr, AfterValidator(_web_address)]
Host = Annotated[
    str,
    _matching(r"[^\s\[\]/@]{1,255}", "a bare host name or address, like 127.0.0.1 or ::1"),
]
Folder = Annotated[str, _matching(_FOLDER, "a path like /heliograph, without a slash at its end")]
ClientId = Annotated[
    str, _matching(r"[!-~]{1,128}", "1 to 128 visible ASCII characters without spaces")
]


class Settings(BaseModel):
    """The effective settings; each field is the environment variable of its name."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=True)

    mosquitto_password_path: Path | None = None
    mosquitto_acl_path: Path | None = None
    mosquitto_pid_path: Path | None = None
    dynamic_security_username: str = "admin"
    dynamic_security_password: SecretStr | None = None
    broker_auth_key: Key | None = None
    broker_auth_networks: Networks = ()

    app_env: Annotated[Literal["development", "test", "production"], BeforeValidator(lower)] = (
        "development"
    )
    debug: bool = False
    host: Host = "0.0.0.0"
    port: int = Field(8000, ge=0, le=65_535)
    https_listen: Addresses = ()
    https_certificate: Path | None = None
    https_key: Path | None = None
    http_redirect: bool = False
    hsts_seconds: int = Field(0, ge=0, le=63_072_000)
    trusted_proxies: Networks = ()
    root_path: Annotated[
        str, _matching(_FOLDER, "a path like /heliograph, without a slash at its end")
    ] = ""
    cors_origins: Origins = ()

    shutdown_timeout: float = Field(20.0, ge=0.1, le=3_600)

    processing_interval: float = Field(1.0, ge=0.05, le=3_600)

    data_directory: Path = Path("./data")
    secrets_key: SecretStr | None = None
    database_url: str = Field("", repr=False)
    auto_migrate: bool = True
    migration_backups: int = Field(2, ge=0, le=1_000)
    accept_empty_database: bool = False
    sqlite_cache: Annotated[int, BeforeValidator(_bytes), Field(ge=0, le=1 << 40)] = 0

    mqtt_listen: Addresses = (Address("0.0.0.0", 1883),)
    mqtt_tls_listen: Addresses = ()
    mqtt_tls_certificate: Path | None = None
    mqtt_tls_key: Path | None = None
    mqtt_tls_ca: Path | None = None
    mqtt_url: str | None = Field(None, repr=False)
    mqtt_username: str | None = None
    mqtt_password: SecretStr | None = None
    mqtt_client_id: ClientId = "heliograph"
    mqtt_keepalive: int = Field(30, ge=5, le=3_600)
    mqtt_shared: bool = False
    mqtt_url_tls_ca: Path | None = None
    mqtt_url_tls_certificate: Path | None = None
    mqtt_url_tls_key: Path | None = None
    mqtt_url_tls_server_name: str | None = None
    mqtt_subscribe_topic: str = "packets/+"
    mqtt_publish_topic: str = "commands"
    mqtt_max_connections: int = Field(20_000, ge=1, le=1_000_000)
    mqtt_max_connections_per_address: Bound = 5_000
    mqtt_max_connections_per_principal: Bound = 100
    mqtt_receive_maximum: int = Field(65_535, ge=1, le=65_535)
    mqtt_connect_timeout: float = Field(10.0, ge=0.1, le=300)

    api_secret_key: Key | None = None
    device_api_keys: Annotated[tuple[Key, ...], BeforeValidator(split)] = ()
    anonymous_role: Annotated[Literal["", "viewer", "editor", "owner"], BeforeValidator(lower)] = ""
    anonymous_networks: Annotated[tuple[str, ...], BeforeValidator(split)] = ()
    allowed_hosts: HostNames = ()
    auto_provision: bool = False
    allow_signup: bool | None = None
    session_days: int = Field(30, ge=1, le=3_650)
    admin_username: str | None = None
    admin_password: SecretStr | None = None
    metrics_token: Key | None = None

    max_in_flight_bytes: int = Field(32 << 20, ge=1 << 20, le=1 << 34)
    rejected_per_source_per_hour: int = Field(1_000, ge=0, le=1_000_000)
    rejected_max_bytes: int = Field(256 << 20, ge=0, le=1 << 40)
    rejected_retention_days: int = Field(30, ge=1, le=36_500)
    retention_days: Days = 0
    rollup_retention_days: Days = 0
    log_retention_days: Days = 0
    disk_budget: Bytes = 0
    pack_after: Age | None = None
    audit_days: int = Field(730, ge=1, le=36_500)
    max_streams: int = Field(1_000, ge=0, le=1_000_000)
    max_streams_per_principal: int = Field(100, ge=0, le=1_000_000)
    rate_limit_read: PerMinute = 6_000
    rate_limit_write: PerMinute = 6_000
    rate_limit_ingest: PerMinute = 600_000
    rate_limit_mqtt: PerMinute = 100_000
    rate_limit_failed_logins: PerMinute = 30
    rate_limit_storage: RedisUrl | None = Field(None, repr=False)

    webhook_allow: Destinations = ()
    scripts_dir: Path | None = None
    script_timeout: float = Field(10.0, ge=0.1)
    script_memory: Annotated[int, BeforeValidator(_bytes), Field(ge=16 << 20, le=1 << 40)] = (
        256 << 20
    )
    max_scripts: int = Field(4, ge=1, le=1_000)
    smtp_host: str | None = None
    smtp_port: int = Field(587, ge=1, le=65_535)
    smtp_security: Annotated[Literal["starttls", "tls", "none"], BeforeValidator(lower)] = (
        "starttls"
    )
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_sender: str | None = None
    heartbeat_url: WebAddress | None = None
    notice_window: float = Field(60.0, ge=0, le=86_400)
    notices_per_hour: int = Field(60, ge=1, le=1_000)

    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(lower)
    ] = "info"
    log_levels: Annotated[tuple[str, ...], BeforeValidator(_levels)] = ()
    log_format: Annotated[Literal["console", "json"], BeforeValidator(lower)] = "console"
    log_file: Path | None = None
    log_file_size: Annotated[int, BeforeValidator(_bytes), Field(ge=1_000, le=1 << 40)] = 10_000_000
    log_file_count: int = Field(5, ge=1, le=1_000)
    commit_sha: str | None = None
    branch_name: str | None = None

    # What wins over the environment, also when that is read again.
    _given: dict[str, Any] = PrivateAttr(default_factory=dict)
    # Secrets of the environment and `.env`, in clear.
    _secret_texts: dict[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, **given: Any) -> None:
        """Read the environment and `.env`; what is given wins over both."""
        texts = read_variables([name.upper() for name in type(self).model_fields])
        # Set to nothing means the default.
        found = {
            name.lower(): text for name, text in texts.items() if text or name in _EMPTY_IS_A_VALUE
        }
        found = _decrypted(found, {name for name in found if self._is_secret(name)})
        super().__init__(**found | given)
        self._given = given
        self._secret_texts = {name: found[name] for name in found if self._is_secret(name)}

    @classmethod
    def _is_secret(cls, name: str) -> bool:
        field = cls.model_fields[name]
        return not field.repr or "SecretStr" in str(field.annotation)

    def secrets(self) -> Secrets:
        """Return what encrypts and decrypts what is stored.

        In development its key is made when it is first asked for, and kept in the data folder.

        Raises:
            StartError: there is no key, or none that can be used.
        """
        key = self.secrets_key.get_secret_value() if self.secrets_key else None
        in_production = self.app_env == "production"
        return ensure_secrets(key, self.data_directory, is_production=in_production)

    @field_validator("secrets_key")
    @classmethod
    def _usable_keys(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            find_secrets(key.get_secret_value(), Path())
        return key

    @field_validator("script_timeout")
    @classmethod
    def _ends_before_its_action(cls, seconds: float) -> float:
        if seconds > LONGEST_SCRIPT_SECONDS:
            raise ValueError(
                f"should be at most {LONGEST_SCRIPT_SECONDS}: an action that takes longer is given"
                " up and done again; a script may leave longer work to a service"
            )
        return seconds

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str, info: Any) -> str:
        if not url and "data_directory" in info.data:
            return f"sqlite+aiosqlite:///{_as_text(info.data['data_directory'])}/heliograph.db"
        if url.partition("://")[0] not in _DATABASES or "://" not in url:
            raise ValueError(f"should start with one of {', '.join(f'{d}://' for d in _DATABASES)}")
        return url

    @model_validator(mode="before")
    @classmethod
    def _devices_go_to_the_broker(cls, given: Any) -> Any:
        # Both, the broker and the listener, only where both are asked for.
        if isinstance(given, dict) and given.get("mqtt_url") and "mqtt_listen" not in given:
            return {**given, "mqtt_listen": ()}
        return given

    @field_validator("mqtt_url")
    @classmethod
    def _broker(cls, url: str | None) -> str | None:
        if url is not None:
            parse_broker_url(url)
        return url

    @field_validator("mqtt_subscribe_topic", "mqtt_publish_topic")
    @classmethod
    def _valid_topic(cls, topic: str, info: Any) -> str:
        levels = topic.split("/")
        if "\0" in topic or not 0 < len(topic.encode()) <= 65_535 or topic.startswith("$"):
            raise ValueError("should be an MQTT topic of 1 to 65535 bytes that starts without $")
        if levels[0] in _SENSOR_TOPICS:
            raise ValueError(f"should not start with {levels[0]}/, which is the sensors' own")
        if levels[0] in ("+", "#"):
            raise ValueError("should start with a level of its own, not with a wildcard")
        if info.field_name == "mqtt_publish_topic":
            if "+" in topic or "#" in topic:
                raise ValueError("should be one topic, without the wildcards + and #")
        elif any(c in level and len(level) > 1 for level in levels for c in "+#") or (
            "#" in levels[:-1]
        ):
            raise ValueError("should have + only as a whole level and # only as the last one")
        return topic

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.api_secret_key in self.device_api_keys:
            raise ValueError("DEVICE_API_KEYS: should not contain the key of API_SECRET_KEY")
        self._check_ports()
        self._check_tls("mqtt_tls_listen", "mqtt_tls_certificate", "mqtt_tls_key", "mqtt_tls_ca")
        self._check_tls("https_listen", "https_certificate", "https_key")
        if self.http_redirect and any(address.port == 0 for address in self.https_listen):
            raise ValueError("HTTP_REDIRECT: needs an HTTPS_LISTEN that names its port")
        if self.scripts_dir is not None and not is_there(self.scripts_dir, folder=True):
            raise ValueError(f"SCRIPTS_DIR: there is no folder {str(self.scripts_dir)!r}")
        if self.log_file is not None and not is_there(self.log_file.parent, folder=True):
            raise ValueError(f"LOG_FILE: there is no folder {str(self.log_file.parent)!r}")
        self._check_administrator()
        self._check_guests()
        self._check_link()
        self._check_broker()
        self._check_mail_server()
        if self.app_env == "production":
            self._check_production()
        return self

    def _check_mail_server(self) -> None:
        if (self.smtp_host is None) != (self.smtp_sender is None):
            raise ValueError("SMTP_SENDER: goes together with SMTP_HOST")
        if self.smtp_sender is not None and not is_mailbox(self.smtp_sender):
            raise ValueError("SMTP_SENDER: should be an address like heliograph@example.org")
        if (self.smtp_username is None) != (self.smtp_password is None):
            raise ValueError("SMTP_USERNAME: goes together with SMTP_PASSWORD")
        if self.smtp_host and self.smtp_security == "none" and not is_loopback(self.smtp_host):
            raise ValueError("SMTP_SECURITY: none only with an SMTP_HOST that is this machine")

    def _check_broker(self) -> None:
        if self.mosquitto_pid_path and not (
            self.mosquitto_password_path or self.mosquitto_acl_path
        ):
            raise ValueError("MOSQUITTO_PID_PATH: goes with MOSQUITTO_PASSWORD_PATH")
        for name in ("mosquitto_password_path", "mosquitto_acl_path"):
            path: Path | None = getattr(self, name)
            if path is not None and not is_there(path.parent, folder=True):
                raise ValueError(f"{name.upper()}: there is no folder {str(path.parent)!r}")

    def _check_guests(self) -> None:
        if not self.anonymous_networks:
            return
        if not self.anonymous_role:
            raise ValueError("ANONYMOUS_NETWORKS: goes together with ANONYMOUS_ROLE")
        if "*" not in self.anonymous_networks:
            return
        for name, address in self._listening("HOST"):
            if not address.is_loopback:
                raise ValueError(
                    f"ANONYMOUS_NETWORKS: * only while nobody else reaches this machine; {name}"
                    f" should be on a loopback address, like 127.0.0.1, not {address.host}"
                )
        if self.trusted_proxies:
            raise ValueError(
                "ANONYMOUS_NETWORKS: * only while nobody else reaches this machine; not with"
                " TRUSTED_PROXIES"
            )

    def _check_administrator(self) -> None:
        if (self.admin_username is None) != (self.admin_password is None):
            raise ValueError("ADMIN_USERNAME: goes together with ADMIN_PASSWORD")
        if self.admin_username is not None and not is_username(self.admin_username):
            raise ValueError(f"ADMIN_USERNAME: should have {USERNAME_RULE}")
        password = self.admin_password
        if password is not None and not SHORTEST <= len(password.get_secret_value()) <= LONGEST:
            raise ValueError(f"ADMIN_PASSWORD: should have {SHORTEST} to {LONGEST} characters")

    @property
    def signup_is_open(self) -> bool:
        """Whether anybody may make an account: ALLOW_SIGNUP, by default except in production."""
        return self.app_env != "production" if self.allow_signup is None else self.allow_signup

    @property
    def retention(self) -> Retention:
        """What counts where nothing is said of a network or sensor."""
        return Retention(self.retention_days, self.rollup_retention_days, self.log_retention_days)

    @property
    def packing_age(self) -> int | None:
        """Microseconds after which measurements are packed; 0: never; None: nothing is said."""
        if self.pack_after is None:
            return None
        return 0 if self.pack_after == "never" else _hours(self.pack_after) * HOUR

    def _check_ports(self) -> None:
        taken: list[tuple[str, Address]] = []
        for name, address in self._listening("PORT"):
            for other, known in taken:
                if address.overlaps(known):
                    raise ValueError(f"{name}: {address} is taken by {other}, on {known}")
            taken.append((name, address))

    def _listening(self, of_http: str) -> list[tuple[str, Address]]:
        """Return all addresses, each with the setting that names it: HTTP's is `of_http`."""
        return [
            (of_http, Address(self.host, self.port)),
            *(("HTTPS_LISTEN", address) for address in self.https_listen),
            *(("MQTT_LISTEN", address) for address in self.mqtt_listen),
            *(("MQTT_TLS_LISTEN", address) for address in self.mqtt_tls_listen),
        ]

    def _check_tls(self, listen: str, certificate: str, key: str, *others: str) -> None:
        if not getattr(self, listen):
            return
        self._check_files(certificate, key, *others)
        for name in (certificate, key):
            if getattr(self, name) is None:
                raise ValueError(f"{name.upper()}: required with {listen.upper()}; a PEM file")

    def _check_link(self) -> None:
        of_link = ("mqtt_url_tls_ca", "mqtt_url_tls_certificate", "mqtt_url_tls_key")
        self._check_files(*of_link)
        if self.mqtt_shared and not self.mqtt_url:
            raise ValueError("MQTT_SHARED: needs a broker (MQTT_URL); the listener shares nothing")
        if self.mqtt_shared and self.database_url.startswith("sqlite"):
            raise ValueError("MQTT_SHARED: needs PostgreSQL; a SQLite file serves one server only")
        encrypted = self.mqtt_url is not None and parse_broker_url(self.mqtt_url).tls
        for name in (*of_link, "mqtt_url_tls_server_name"):
            if getattr(self, name) is not None and not encrypted:
                raise ValueError(f"{name.upper()}: needs an MQTT_URL that begins with mqtts://")
        if (self.mqtt_url_tls_certificate is None) != (self.mqtt_url_tls_key is None):
            raise ValueError("MQTT_URL_TLS_CERTIFICATE: goes together with MQTT_URL_TLS_KEY")

    def _check_files(self, *names: str) -> None:
        for name in names:
            path: Path | None = getattr(self, name)
            if path is not None and not is_there(path):
                raise ValueError(f"{name.upper()}: there is no file {str(path)!r}")

    def _check_production(self) -> None:
        if self.admin_username is not None and self.admin_password is not None:
            reason = weakness(self.admin_password.get_secret_value(), self.admin_username)
            if reason is not None:
                raise ValueError(f"ADMIN_PASSWORD: {reason}; refused with APP_ENV=production")
        if self.debug:
            raise ValueError("DEBUG: should be false with APP_ENV=production")
        if self.anonymous_role:
            raise ValueError("ANONYMOUS_ROLE: should be empty with APP_ENV=production")
        if self.api_secret_key is None:
            raise ValueError(f"API_SECRET_KEY: required with APP_ENV=production; {_LIKE_THIS}")
        keys = [("API_SECRET_KEY", self.api_secret_key), ("METRICS_TOKEN", self.metrics_token)]
        keys.append(("BROKER_AUTH_KEY", self.broker_auth_key))
        keys += [("DEVICE_API_KEYS", key) for key in self.device_api_keys]
        for name, text in [(name, key.get_secret_value()) for name, key in keys if key]:
            if len(text) < SHORTEST_PRODUCTION_KEY:
                least = f"{SHORTEST_PRODUCTION_KEY} characters"
                raise ValueError(f"{name}: a key with APP_ENV=production has {least} or more")
            if is_guessable(text):
                raise ValueError(f"{name}: is an example or easily guessed; {_LIKE_THIS}")

    @property
    def changeable(self) -> frozenset[str]:
        """The names of the settings that can change while the server runs."""
        always = (*OF_LOGS, *OF_PROCESSING, *OF_RATES, *OF_KEEPING, *OF_NOTICES, *OF_STREAMS)
        return frozenset((*always, *OF_EACH_TIME, *(() if self.mqtt_url else OF_TOPICS)))

    def reread(self) -> "Settings":
        """Return the settings as the environment and `.env` have them now.

        Raises:
            StartError: as from `load_settings`.
        """
        return load_settings(**self._given)

    def secret_texts(self) -> dict[str, str]:
        """Return by variable name what of the environment and `.env` is secret, in clear."""
        return {name.upper(): text for name, text in self._secret_texts.items()}

    def clear_secrets(self) -> list[str]:
        """Return what no log may hold: keys, passwords and tokens that are in use, in clear."""
        values = [getattr(self, name) for name in type(self).model_fields]
        parts = [part for one in values for part in (one if isinstance(one, tuple) else (one,))]
        return [part.get_secret_value() for part in parts if isinstance(part, SecretStr)]

    def masked(self) -> dict[str, Any]:
        """Return the effective values by variable name, as JSON has them, secrets masked."""
        return {name.upper(): _shown(getattr(self, name)) for name in type(self).model_fields}


_LIKE_THIS = "make one with: openssl rand -hex 32"


def load_settings(**overrides: Any) -> Settings:
    """Return the settings of the environment and `.env`; `overrides` win over both.

    Raises:
        StartError: a value is wrong; one line names the variables and holds no secret.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise StartError("; ".join(map(_line, error.errors(include_url=False)))) from None


def mistyped_variables() -> list[Mistyped]:
    """Return the variables that are probably meant to be one of ours, and are none."""
    return mistyped([name.upper() for name in Settings.model_fields])


def encrypting_secrets() -> Secrets:
    """Return what encrypts the settings, of which all but its key may be missing or wrong yet.

    Raises:
        StartError: there is no key, or none that can be used.
    """
    found = read_variables(["DATA_DIRECTORY", "SECRETS_KEY"])
    folder = found.get("DATA_DIRECTORY") or "./data"
    secrets = find_secrets(found.get("SECRETS_KEY"), Path(folder))
    if secrets is None:
        # None is made here: the command may be given where no server looks for it.
        raise StartError(f"SECRETS_KEY: there is no key, not in {folder} either; {MAKE_ONE}")
    return secrets


def _decrypted(found: dict[str, str], secret: Collection[str]) -> dict[str, str]:
    """Return the texts of settings with what is encrypted of the secret ones in clear.

    Raises:
        StartError: something can't be decrypted, or is no secret; it names the setting.
    """
    encrypted = [name for name, text in found.items() if is_encrypted(text)]
    if not encrypted:
        return found
    if strange := next((name for name in encrypted if name not in secret), None):
        raise StartError(f"{strange.upper()}: is no secret, and can't be given encrypted")
    if "secrets_key" in encrypted:
        raise StartError("SECRETS_KEY: is what decrypts, and can't be given encrypted")
    secrets = find_secrets(found.get("secrets_key"), Path(found.get("data_directory") or "./data"))
    if secrets is None:
        raise StartError(f"{encrypted[0].upper()}: is encrypted, and there is no key; {MAKE_ONE}")
    clear = dict(found)
    for name in encrypted:
        # Of several, such as keys by commas, each may be encrypted alone.
        parts = found[name].split(",")
        try:
            clear[name] = ",".join(
                secrets.decrypt(part.strip()) if is_encrypted(part.strip()) else part
                for part in parts
            )
        except UndecipherableError as error:
            raise StartError(f"{name.upper()}: {error}") from None
    return clear


def _as_text(path: Path) -> str:
    """Return the path as a person writes it: a relative one with `./` in front."""
    return str(path) if path.is_absolute() else f"./{path}"


def _shown(value: Any) -> Any:
    match value:
        case SecretStr():
            return MASK
        case Path():
            return _as_text(value)
        case str():
            return mask_text(value)
        case Address() | Destination() | IPv4Network() | IPv6Network():
            return str(value)
        case tuple():
            return [_shown(part) for part in value]
        case _:
            return value


def _line(error: ErrorDetails) -> str:
    """Return one validation error as `NAME: what is wrong; allowed: …`, without secrets."""
    if error["type"] == "value_error" and not error["loc"]:
        return str(error["ctx"]["error"])
    name = str(error["loc"][0])
    field = Settings.model_fields.get(name)
    if error["type"] == "value_error":
        return f"{name.upper()}: {error['ctx']['error']}"
    allowed = _allowed(field) if field else None
    message = f"should be {allowed}" if allowed else error["msg"].lower()
    if field is None or name.endswith(("_url", "_key", "_keys", "_token")):
        return f"{name.upper()}: {message}"
    return f"{name.upper()}: {message}, not {str(error['input'])[:60]!r}"


def _allowed(field: FieldInfo) -> str | None:
    """Return in words what a field takes; None where its own message says it better."""
    annotation = field.annotation
    if annotation in (bool, bool | None):
        return "true or false"
    if annotation in (int, float):
        bounds = {type(bound).__name__: bound for bound in field.metadata}
        least, most = bounds["Ge"].ge, bounds.get("Le")
        kind = "a whole number" if annotation is int else "a number"
        return f"{kind} from {least} " + (f"to {most.le}" if most else "on")
    choices = getattr(annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return "one of " + ", ".join(choice or "(empty)" for choice in choices)
    return None
