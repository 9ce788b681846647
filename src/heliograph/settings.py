"""All settings, typed and checked, in one class."""

import os
import re
import secrets
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from heliograph.address import Address, parse_address
from heliograph.environment import read_variables
from heliograph.errors import StartError
from heliograph.masking import MASK, mask_text
from heliograph.model.credentials import is_guessable

SHORTEST_PRODUCTION_KEY = 16
SECRET_KEY_FILE = "api_secret_key"  # noqa: S105 - a file's name, not a secret

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
_DATABASES = (
    "sqlite",
    "sqlite+aiosqlite",
    "postgresql",
    "postgresql+asyncpg",
    "postgresql+psycopg",
    "postgres",
)


def _split(value: Any) -> Any:
    """Return the distinct parts of a comma-separated text, in order; anything else as it is."""
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(part for text in value.split(",") if (part := text.strip())))


def _addresses(value: Any) -> Any:
    return tuple(map(parse_address, _split(value))) if isinstance(value, str) else value


def _networks(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return tuple(map(ip_network, _split(value)))
    except ValueError as error:
        raise ValueError(f"{error}; allowed: like 127.0.0.1, 10.0.0.0/8") from error


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _key(key: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]{1,256}", key.get_secret_value()):
        raise ValueError("should be 1 to 256 visible ASCII characters without spaces")
    return key


Proxy = IPv4Network | IPv6Network
Addresses = Annotated[tuple[Address, ...], BeforeValidator(_addresses)]
Bound = Annotated[int, Field(ge=0, le=1_000_000)]
PerMinute = Annotated[int, Field(ge=0, le=100_000_000)]


class _Variables(PydanticBaseSettingsSource):
    """The environment and `.env`; unlike the library's own sources, with NAME_FILE."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Do nothing: all variables are read in one go."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        """Return what is set, by field name; set to nothing means the default."""
        texts = read_variables([name.upper() for name in self.settings_cls.model_fields])
        return {
            name.lower(): text for name, text in texts.items() if text or name in _EMPTY_IS_A_VALUE
        }


class Settings(BaseSettings):
    """The effective settings; each field is the environment variable of its name."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", validate_default=True)

    app_env: Annotated[Literal["development", "test", "production"], BeforeValidator(_lower)] = (
        "development"
    )
    debug: bool = False
    host: str = "0.0.0.0"
    port: int = Field(8000, ge=0, le=65_535)
    trusted_proxies: Annotated[tuple[Proxy, ...], BeforeValidator(_networks)] = ()

    data_directory: Path = Path("./data")
    database_url: str = Field("", repr=False)
    auto_migrate: bool = True

    mqtt_listen: Addresses = (Address("0.0.0.0", 1883),)
    mqtt_tls_listen: Addresses = ()
    mqtt_tls_certificate: Path | None = None
    mqtt_tls_key: Path | None = None
    mqtt_tls_ca: Path | None = None
    mqtt_url: str | None = Field(None, repr=False)
    mqtt_subscribe_topic: str = "packets/+"
    mqtt_publish_topic: str = "commands"
    mqtt_max_connections: int = Field(20_000, ge=1, le=1_000_000)
    mqtt_max_connections_per_address: Bound = 5_000
    mqtt_max_connections_per_principal: Bound = 100
    mqtt_receive_maximum: int = Field(65_535, ge=1, le=65_535)
    mqtt_connect_timeout: float = Field(10.0, ge=0.1, le=300)

    api_secret_key: SecretStr | None = None
    device_api_keys: Annotated[tuple[SecretStr, ...], BeforeValidator(_split)] = ()
    anonymous_role: Annotated[Literal["", "viewer", "editor", "owner"], BeforeValidator(_lower)] = (
        ""
    )
    auto_provision: bool = False
    metrics_token: SecretStr | None = None

    max_in_flight_bytes: int = Field(32 << 20, ge=1 << 20, le=1 << 34)
    rejected_per_source_per_hour: int = Field(1_000, ge=0, le=1_000_000)
    rejected_max_bytes: int = Field(256 << 20, ge=0, le=1 << 40)
    rejected_retention_days: int = Field(30, ge=1, le=36_500)
    rate_limit_read: PerMinute = 6_000
    rate_limit_ingest: PerMinute = 600_000
    rate_limit_failed_logins: PerMinute = 30

    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)
    ] = "info"
    log_format: Annotated[Literal["console", "json"], BeforeValidator(_lower)] = "console"
    commit_sha: str | None = None
    branch_name: str | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then variables by our own source."""
        return init_settings, _Variables(settings_cls)

    @field_validator("host")
    @classmethod
    def _bare_host(cls, host: str) -> str:
        if not re.fullmatch(r"[^\s\[\]/@]{1,255}", host):
            raise ValueError("should be a bare host name or address, like 127.0.0.1 or ::1")
        return host

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str, info: Any) -> str:
        if not url and "data_directory" in info.data:
            return f"sqlite+aiosqlite:///{_as_text(info.data['data_directory'])}/heliograph.db"
        if url.partition("://")[0] not in _DATABASES or "://" not in url:
            raise ValueError(f"should start with one of {', '.join(f'{d}://' for d in _DATABASES)}")
        return url

    @field_validator("mqtt_url")
    @classmethod
    def _no_link_yet(cls, url: str | None) -> None:
        if url is not None:
            raise ValueError(
                "the link to an external broker is not in this version yet; leave it empty"
                " and let devices connect to MQTT_LISTEN"
            )

    @field_validator("mqtt_subscribe_topic", "mqtt_publish_topic")
    @classmethod
    def _valid_topic(cls, topic: str, info: Any) -> str:
        levels = topic.split("/")
        if "\0" in topic or not 0 < len(topic.encode()) <= 65_535 or topic.startswith("$"):
            raise ValueError("should be an MQTT topic of 1 to 65535 bytes that starts without $")
        if levels[0] in _SENSOR_TOPICS:
            raise ValueError(f"should not start with {levels[0]}/, which is the sensors' own")
        if info.field_name == "mqtt_publish_topic":
            if "+" in topic or "#" in topic:
                raise ValueError("should be one topic, without the wildcards + and #")
        elif any(c in level and len(level) > 1 for level in levels for c in "+#") or (
            "#" in levels[:-1]
        ):
            raise ValueError("should have + only as a whole level and # only as the last one")
        return topic

    @field_validator("api_secret_key", "metrics_token")
    @classmethod
    def _sendable(cls, key: SecretStr | None) -> SecretStr | None:
        return key and _key(key)

    @field_validator("device_api_keys")
    @classmethod
    def _all_sendable(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        return tuple(map(_key, keys))

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.api_secret_key in self.device_api_keys:
            raise ValueError("DEVICE_API_KEYS: should not contain the key of API_SECRET_KEY")
        self._check_ports()
        if self.mqtt_tls_listen:
            self._check_tls_files()
        if self.app_env == "production":
            self._check_production()
        return self

    def _check_ports(self) -> None:
        taken = [("PORT", Address(self.host, self.port))]
        for name, addresses in (
            ("MQTT_LISTEN", self.mqtt_listen),
            ("MQTT_TLS_LISTEN", self.mqtt_tls_listen),
        ):
            for address in addresses:
                for other, known in taken:
                    if address.overlaps(known):
                        raise ValueError(f"{name}: {address} is taken by {other}, on {known}")
                taken.append((name, address))

    def _check_tls_files(self) -> None:
        for name in ("mqtt_tls_certificate", "mqtt_tls_key", "mqtt_tls_ca"):
            path: Path | None = getattr(self, name)
            if path is None and name != "mqtt_tls_ca":
                raise ValueError(f"{name.upper()}: required with MQTT_TLS_LISTEN; a PEM file")
            if path is not None and not path.is_file():
                raise ValueError(f"{name.upper()}: there is no file {str(path)!r}")

    def _check_production(self) -> None:
        if self.debug:
            raise ValueError("DEBUG: should be false with APP_ENV=production")
        if self.anonymous_role:
            raise ValueError("ANONYMOUS_ROLE: should be empty with APP_ENV=production")
        if self.api_secret_key is None:
            raise ValueError(f"API_SECRET_KEY: required with APP_ENV=production; {_LIKE_THIS}")
        keys = [("API_SECRET_KEY", self.api_secret_key), ("METRICS_TOKEN", self.metrics_token)]
        keys += [("DEVICE_API_KEYS", key) for key in self.device_api_keys]
        for name, key in keys:
            text = key.get_secret_value() if key else None
            if text is not None and len(text) < SHORTEST_PRODUCTION_KEY:
                least = f"{SHORTEST_PRODUCTION_KEY} characters"
                raise ValueError(f"{name}: a key with APP_ENV=production has {least} or more")
            if text is not None and is_guessable(text):
                raise ValueError(f"{name}: is an example or easily guessed; {_LIKE_THIS}")

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


def ensure_api_secret_key(settings: Settings) -> tuple[Settings, bool]:
    """Return settings that have an admin key, and whether it was made just now.

    Without API_SECRET_KEY (never so in production) it is the one kept in the data folder,
    readable by the owner only.

    Raises:
        StartError: the data folder cannot be written.
    """
    if settings.api_secret_key is not None:
        return settings, False
    path = settings.data_directory / SECRET_KEY_FILE
    try:
        generated = not path.exists() and _create_key_file(path)
        key = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a key"
        raise StartError(f"API_SECRET_KEY: cannot keep one in {str(path)!r}: {reason}") from error
    if len(key) < SHORTEST_PRODUCTION_KEY:
        raise StartError(f"API_SECRET_KEY: {str(path)!r} holds no usable key; delete the file")
    return settings.model_copy(update={"api_secret_key": SecretStr(key)}), generated


def _create_key_file(path: Path) -> bool:
    """Put a new key at the path, whole or not at all; tell whether ours came first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


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
        case Address() | IPv4Network() | IPv6Network():
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
    if field.annotation is bool:
        return "true or false"
    if field.annotation in (int, float):
        bounds = {type(bound).__name__: bound for bound in field.metadata}
        least, most = bounds["Ge"].ge, bounds["Le"].le
        kind = "a whole number" if field.annotation is int else "a number"
        return f"{kind} from {least} to {most}"
    choices = getattr(field.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return "one of " + ", ".join(choice or "(empty)" for choice in choices)
    return None
