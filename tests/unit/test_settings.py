"""Settings: what is refused and in what words, what is made up, what is shown."""

import json
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from bare_environment import NAMES, refusal, work_in
from heliograph.address import Address
from heliograph.admin_key import ensure_api_secret_key
from heliograph.errors import StartError
from heliograph.masking import MASK
from heliograph.model.account import USERNAME_RULE
from heliograph.processing.dispatcher import LONGEST_SECONDS
from heliograph.settings import LONGEST_SCRIPT_SECONDS, OF_SECRETS, Settings, load_settings

STRONG = "b7Xq2mZr9tLk4WcV8sNf"


@pytest.fixture(autouse=True)
def no_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(tmp_path, monkeypatch)


def test_defaults():
    settings = load_settings()
    assert settings.app_env == "development"
    assert settings.database_url == "sqlite+aiosqlite:///./data/heliograph.db"
    assert settings.mqtt_listen == (Address("0.0.0.0", 1883),)
    assert settings.mqtt_tls_listen == ()
    assert settings.api_secret_key is None
    assert settings.anonymous_role == ""


def test_database_follows_the_data_folder_unless_named():
    assert load_settings(data_directory="/srv/h").database_url == (
        "sqlite+aiosqlite:////srv/h/heliograph.db"
    )
    assert load_settings(data_directory="kept").database_url == (
        "sqlite+aiosqlite:///./kept/heliograph.db"
    )
    url = "postgresql://u:p@h/d"
    assert load_settings(data_directory="/srv/h", database_url=url).database_url == url


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("123", 123),
        ("5B", 5),
        ("10GB", 10_000_000_000),
        ("10 gb", 10_000_000_000),
        ("1.5GiB", 3 << 29),
        ("64k", 64_000),
        ("64KiB", 64 << 10),
        ("2T", 2_000_000_000_000),
    ],
)
def test_sizes_have_units(text, size, monkeypatch):
    monkeypatch.setenv("DISK_BUDGET", text)
    assert load_settings().disk_budget == size


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        load_settings().port = 1


BAD = [
    ("PORT", "70000", "PORT: should be a whole number from 0 to 65535, not '70000'"),
    ("PORT", "http", "PORT: should be a whole number from 0 to 65535, not 'http'"),
    ("PORT", "x\ny", "PORT: should be a whole number from 0 to 65535, not 'x\\ny'"),
    ("RETENTION_DAYS", "-1", "RETENTION_DAYS: should be a whole number from 0 to 36500, not '-1'"),
    (
        "DISK_BUDGET",
        "10 apples",
        "DISK_BUDGET: should be a number of bytes like 500MB, 10GB or 1.5GiB, not '10 apples'",
    ),
    (
        "DISK_BUDGET",
        "-1",
        "DISK_BUDGET: should be a number of bytes like 500MB, 10GB or 1.5GiB, not '-1'",
    ),
    (
        "DISK_BUDGET",
        "2048PB",
        f"DISK_BUDGET: should be a whole number from 0 to {1 << 60}, not '2048PB'",
    ),
    ("HOST", "a b", "HOST: should be a bare host name or address, like 127.0.0.1 or ::1"),
    ("APP_ENV", "prod", "APP_ENV: should be one of development, test, production, not 'prod'"),
    ("DEBUG", "maybe", "DEBUG: should be true or false, not 'maybe'"),
    ("AUTO_MIGRATE", "2", "AUTO_MIGRATE: should be true or false, not '2'"),
    ("ALLOW_SIGNUP", "maybe", "ALLOW_SIGNUP: should be true or false, not 'maybe'"),
    (
        "LOG_LEVEL",
        "loud",
        "LOG_LEVEL: should be one of debug, info, warning, error, critical, not 'loud'",
    ),
    ("LOG_FORMAT", "xml", "LOG_FORMAT: should be one of console, json, not 'xml'"),
    (
        "ANONYMOUS_ROLE",
        "boss",
        "ANONYMOUS_ROLE: should be one of (empty), viewer, editor, owner, not 'boss'",
    ),
    *(
        (
            "ALLOWED_HOSTS",
            f"a.example,{name}",
            (
                f"ALLOWED_HOSTS: {name!r} is no host name;"
                " allowed: like heliograph.example.org or *.example.org"
            ),
        )
        for name in ("*", "http://a.example", "a.example:8000", "a.*.example", "-a")
    ),
    (
        "MQTT_LISTEN",
        "::1:1883",
        "MQTT_LISTEN: '::1:1883' is not host:port; allowed: like 0.0.0.0:1883 or [::]:1883",
    ),
    (
        "MQTT_LISTEN",
        "0.0.0.0:1883, nine",
        "MQTT_LISTEN: 'nine' is not host:port; allowed: like 0.0.0.0:1883 or [::]:1883",
    ),
    (
        "MQTT_LISTEN",
        "127.0.0.1:8000",
        "MQTT_LISTEN: 127.0.0.1:8000 is taken by PORT, on 0.0.0.0:8000",
    ),
    (
        "MQTT_TLS_LISTEN",
        "0.0.0.0:1883",
        "MQTT_TLS_LISTEN: 0.0.0.0:1883 is taken by MQTT_LISTEN, on 0.0.0.0:1883",
    ),
    (
        "MQTT_TLS_LISTEN",
        "[::]:8883",
        "MQTT_TLS_CERTIFICATE: required with MQTT_TLS_LISTEN; a PEM file",
    ),
    (
        "MQTT_CONNECT_TIMEOUT",
        "0",
        "MQTT_CONNECT_TIMEOUT: should be a number from 0.1 to 300, not '0'",
    ),
    (
        "MQTT_MAX_CONNECTIONS",
        "0",
        "MQTT_MAX_CONNECTIONS: should be a whole number from 1 to 1000000, not '0'",
    ),
    (
        "RATE_LIMIT_READ",
        "-1",
        "RATE_LIMIT_READ: should be a whole number from 0 to 100000000, not '-1'",
    ),
    (
        "MQTT_SUBSCRIBE_TOPIC",
        "a/#/b",
        "MQTT_SUBSCRIBE_TOPIC: should have + only as a whole level and # only as the last one",
    ),
    (
        "MQTT_SUBSCRIBE_TOPIC",
        "a/b+",
        "MQTT_SUBSCRIBE_TOPIC: should have + only as a whole level and # only as the last one",
    ),
    (
        "MQTT_PUBLISH_TOPIC",
        "commands/+",
        "MQTT_PUBLISH_TOPIC: should be one topic, without the wildcards + and #",
    ),
    (
        "MQTT_PUBLISH_TOPIC",
        "$SYS/x",
        "MQTT_PUBLISH_TOPIC: should be an MQTT topic of 1 to 65535 bytes that starts without $",
    ),
    (
        "MQTT_SUBSCRIBE_TOPIC",
        "measurements/+",
        "MQTT_SUBSCRIBE_TOPIC: should not start with measurements/, which is the sensors' own",
    ),
    (
        "TRUSTED_PROXIES",
        "10.0.0.1/8",
        "TRUSTED_PROXIES: 10.0.0.1/8 has host bits set; allowed: like 127.0.0.1, 10.0.0.0/8",
    ),
    (
        "MQTT_URL",
        "amqp://u:hidden@broker",
        "MQTT_URL: should start with mqtt:// or, for TLS, mqtts://",
    ),
    (
        "MQTT_URL",
        "mqtt://u:hidden@broker/path",
        "MQTT_URL: should end with host and port, like mqtt://host:1883",
    ),
    (
        "MQTT_URL",
        "mqtt://u:hidden@broker:70000",
        "MQTT_URL: is not a URL; allowed: like mqtt://host:1883",
    ),
    (
        "MQTT_CLIENT_ID",
        "two words",
        "MQTT_CLIENT_ID: should be 1 to 128 visible ASCII characters without spaces",
    ),
    (
        "MQTT_CLIENT_ID",
        "x" * 129,
        "MQTT_CLIENT_ID: should be 1 to 128 visible ASCII characters without spaces",
    ),
    (
        "MQTT_KEEPALIVE",
        "4",
        "MQTT_KEEPALIVE: should be a whole number from 5 to 3600, not '4'",
    ),
    (
        "MQTT_RECEIVE_MAXIMUM",
        "0",
        "MQTT_RECEIVE_MAXIMUM: should be a whole number from 1 to 65535, not '0'",
    ),
    (
        "API_SECRET_KEY",
        "hidden words",
        "API_SECRET_KEY: should be 1 to 256 visible ASCII characters without spaces",
    ),
    (
        "DEVICE_API_KEYS",
        "good,hïdden",
        "DEVICE_API_KEYS: should be 1 to 256 visible ASCII characters without spaces",
    ),
]


@pytest.mark.parametrize(("name", "value", "line"), BAD)
def test_a_bad_value_is_refused_in_one_line(monkeypatch, name, value, line):
    monkeypatch.setenv(name, value)
    assert refusal() == line


def test_an_unknown_database_is_refused_without_showing_its_url(monkeypatch):
    for url in ("mysql://u:hidden@h/d", "hidden", "/hidden/file.db"):
        monkeypatch.setenv("DATABASE_URL", url)
        line = refusal()
        assert line.startswith("DATABASE_URL: should start with one of sqlite://, ")
        assert "hidden" not in line


@pytest.mark.parametrize(
    "url",
    [
        *("memcached://hidden:1", "hidden:6379", "redis://", "redis://h:0"),
        *("redis://u:hidden@h:x/0", "async+redis://hidden", "redis://h/hidden"),
        "redis://h/0?socket_timeout=hidden",
    ],
)
def test_another_storage_of_limits_is_refused_without_showing_its_url(monkeypatch, url):
    monkeypatch.setenv("RATE_LIMIT_STORAGE", url)
    assert refusal() == (
        "RATE_LIMIT_STORAGE: should be like redis://host:6379/0 or, for TLS,"
        " rediss://user:password@host:6379/0"
    )


@pytest.mark.parametrize("url", ["redis://h", "redis://[::1]:6379/15", "rediss://u:hidden@h:1/0"])
def test_a_redis_for_limits_is_taken_and_its_password_masked(monkeypatch, url):
    monkeypatch.setenv("RATE_LIMIT_STORAGE", url)
    settings = load_settings()
    assert settings.rate_limit_storage == url
    assert "hidden" not in str(settings.masked()) + repr(settings)


def test_every_wrong_variable_is_named(monkeypatch):
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("DEBUG", "x")
    line = refusal()
    assert "PORT: " in line
    assert "DEBUG: " in line


# The words of the library that reads them.
LEAKS = re.compile(
    r"value error|assertion|\binput\b|unable to|\bvalid\b|instance|pydantic|type=", re.IGNORECASE
)


def test_no_refusal_is_in_the_librarys_words(monkeypatch):
    refused = 0
    for name in Settings.model_fields:
        for text in ("two words", "-1", "1e999", "a/" + "a" * 300):
            monkeypatch.setenv(name.upper(), text)
            line = _refused()
            assert not LEAKS.search(line), line
            refused += bool(line)
        monkeypatch.delenv(name.upper())
    assert refused > 100


def _refused():
    try:
        load_settings()
    except StartError as error:
        return str(error)
    return ""


GOOD = [
    ("LOG_LEVEL", "WARNING", "warning"),
    ("APP_ENV", "Test", "test"),
    ("ANONYMOUS_ROLE", "Viewer", "viewer"),
    ("ALLOWED_HOSTS", "A.example, *.b.example", ("a.example", "*.b.example")),
    ("DEBUG", "1", True),
    ("AUTO_MIGRATE", "no", False),
    ("HOST", "::1", "::1"),
    ("MQTT_LISTEN", "localhost:0", (Address("localhost", 0),)),
    (
        "MQTT_LISTEN",
        " [::]:1883 , 0.0.0.0:1883,[::]:1883",
        (Address("::", 1883), Address("0.0.0.0", 1883)),
    ),
    ("MQTT_SUBSCRIBE_TOPIC", "plant/+/packets/#", "plant/+/packets/#"),
    ("DEVICE_API_KEYS", "key1, key2,,key1", (SecretStr("key1"), SecretStr("key2"))),
    ("MQTT_URL", "mqtt://u:p@broker", "mqtt://u:p@broker"),
    ("MQTT_URL", "ssl://[::1]:8884/", "ssl://[::1]:8884/"),
    ("MQTT_URL", "", None),
    ("MQTT_CLIENT_ID", "plant/north:1", "plant/north:1"),
    ("MQTT_KEEPALIVE", "3600", 3_600),
    ("DATABASE_URL", "sqlite:///./x.db", "sqlite:///./x.db"),
    ("DATABASE_URL", "postgresql+asyncpg://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
]


@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
def test_a_good_value(monkeypatch, name, value, expected):
    monkeypatch.setenv(name, value)
    assert getattr(load_settings(), name.lower()) == expected


OPEN = "ANONYMOUS_NETWORKS: * only while nobody else reaches this machine;"
LOOPBACK = {"host": "127.0.0.1", "mqtt_listen": "[::1]:1883,localhost:1884"}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"anonymous_role": ""}, "ANONYMOUS_NETWORKS: goes together with ANONYMOUS_ROLE"),
        (
            {"host": "0.0.0.0"},
            f"{OPEN} HOST should be on a loopback address, like 127.0.0.1, not 0.0.0.0",
        ),
        (
            {"mqtt_listen": "0.0.0.0:1883"},
            f"{OPEN} MQTT_LISTEN should be on a loopback address, like 127.0.0.1, not 0.0.0.0",
        ),
        (
            {"trusted_proxies": "127.0.0.1"},
            f"{OPEN} not with TRUSTED_PROXIES",
        ),
    ],
)
def test_every_network_is_open_on_loopback_only(given, line):
    settings = {**LOOPBACK, "anonymous_role": "viewer", "anonymous_networks": "*"}
    assert load_settings(**settings).anonymous_networks == ("*",)
    assert refusal(**settings | given) == line


def test_networks_that_are_named_are_open_wherever_it_listens():
    settings = load_settings(anonymous_role="viewer", anonymous_networks="roof, cellar")
    assert settings.anonymous_networks == ("roof", "cellar")


def test_device_keys_must_differ_from_the_admin_key():
    line = refusal(api_secret_key=STRONG, device_api_keys=f"other,{STRONG}")
    assert line == "DEVICE_API_KEYS: should not contain the key of API_SECRET_KEY"


@pytest.mark.parametrize(
    ("name", "password", "line"),
    [
        ("root", None, "ADMIN_USERNAME: goes together with ADMIN_PASSWORD"),
        (None, "correct horse", "ADMIN_USERNAME: goes together with ADMIN_PASSWORD"),
        ("root", "1234567", "ADMIN_PASSWORD: should have 8 to 256 characters"),
        ("root", "x" * 257, "ADMIN_PASSWORD: should have 8 to 256 characters"),
        ("a/b", "correct horse", f"ADMIN_USERNAME: should have {USERNAME_RULE}"),
        ("x" * 65, "correct horse", f"ADMIN_USERNAME: should have {USERNAME_RULE}"),
    ],
)
def test_the_first_administrator_has_a_name_and_a_password(monkeypatch, name, password, line):
    for variable, value in (("ADMIN_USERNAME", name), ("ADMIN_PASSWORD", password)):
        if value is not None:
            monkeypatch.setenv(variable, value)
    assert refusal() == line


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("12345678", "is one of the commonest passwords"),
        ("The-Keeper", "is the user name"),
        ("correct horse", None),
    ],
)
def test_in_production_the_first_administrators_password_is_not_easily_guessed(password, reason):
    given = {"admin_username": "the-keeper", "admin_password": password, "api_secret_key": STRONG}
    load_settings(**given)
    if reason is None:
        load_settings(**given, app_env="production")
    else:
        line = refusal(**given, app_env="production")
        assert line == f"ADMIN_PASSWORD: {reason}; refused with APP_ENV=production"


@pytest.mark.parametrize(
    ("app_env", "allow_signup", "is_open"),
    [
        ("development", None, True),
        ("production", None, False),
        ("development", False, False),
        ("production", True, True),
    ],
)
def test_who_may_sign_up(app_env, allow_signup, is_open):
    settings = load_settings(app_env=app_env, allow_signup=allow_signup, api_secret_key=STRONG)
    assert settings.signup_is_open is is_open


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"smtp_host": "mail"}, "SMTP_SENDER: goes together with SMTP_HOST"),
        ({"smtp_sender": "a@b"}, "SMTP_SENDER: goes together with SMTP_HOST"),
        (
            {"smtp_host": "mail", "smtp_sender": "a@b\r\nBcc: c@d"},
            "SMTP_SENDER: should be an address like heliograph@example.org",
        ),
        ({"smtp_username": "u"}, "SMTP_USERNAME: goes together with SMTP_PASSWORD"),
        (
            {"smtp_host": "mail", "smtp_sender": "a@b", "smtp_security": "none"},
            "SMTP_SECURITY: none only with an SMTP_HOST that is this machine",
        ),
        ({"scripts_dir": "nowhere"}, "SCRIPTS_DIR: there is no folder 'nowhere'"),
        ({"script_timeout": 0}, "SCRIPT_TIMEOUT: should be a number from 0.1 on, not '0'"),
        (
            {"script_timeout": 45},
            (
                "SCRIPT_TIMEOUT: should be at most 40: an action that takes longer is given up and"
                " done again; a script may leave longer work to a service"
            ),
        ),
    ],
)
def test_what_notices_and_scripts_need(given, line):
    assert refusal(**given) == line
    assert LONGEST_SCRIPT_SECONDS < LONGEST_SECONDS
    good = {"smtp_host": "localhost", "smtp_sender": "a@b", "smtp_security": "none"}
    assert load_settings(**good, scripts_dir=".").smtp_port == 587


def test_tls_files_must_exist(tmp_path):
    existing = tmp_path / "a.pem"
    existing.touch()
    given = {"mqtt_tls_listen": "127.0.0.1:8883", "mqtt_tls_certificate": str(existing)}
    assert refusal(**given).startswith("MQTT_TLS_KEY: required with MQTT_TLS_LISTEN")
    assert refusal(**given, mqtt_tls_key="nowhere") == "MQTT_TLS_KEY: there is no file 'nowhere'"
    given["mqtt_tls_key"] = str(existing)
    assert refusal(**given, mqtt_tls_ca="nowhere") == "MQTT_TLS_CA: there is no file 'nowhere'"
    assert load_settings(**given).mqtt_tls_listen == (Address("127.0.0.1", 8883),)


def test_origins_are_named_as_browsers_send_them():
    given = "https://App.example.org:443, http://localhost:3000, http://[::1]:80"
    assert load_settings(cors_origins=given).cors_origins == (
        *("https://app.example.org", "http://localhost:3000"),
        "http://[::1]",
    )
    for wrong in (
        "https://app.example.org/",
        "app.example.org",
        "https://*.example.org",
        "ftp://a",
    ):
        assert "is no origin; allowed: like https://app" in refusal(cors_origins=wrong)
    for wrong in ("*", "null", "http://a, *"):
        assert "is refused, since it would let any page in" in refusal(cors_origins=wrong)


@pytest.mark.parametrize(
    "root", ["tele", "/", "/tele/", "//a", "/a b", "/..", "/api/v1", "/api/v1/a"]
)
def test_a_root_path_is_a_folder(root):
    assert refusal(root_path=root).startswith("ROOT_PATH: should be a path like /heliograph")
    assert load_settings(root_path="/api").root_path == "/api"
    assert load_settings(root_path="/a/b.c").root_path == "/a/b.c"


def test_https_needs_its_files_and_a_port_to_lead_to(tmp_path):
    own = tmp_path / "own.pem"
    own.touch()
    given = {"https_listen": "127.0.0.1:0", "https_certificate": str(own)}
    assert refusal(**given) == "HTTPS_KEY: required with HTTPS_LISTEN; a PEM file"
    given["https_key"] = str(own)
    assert load_settings(**given).https_listen == (Address("127.0.0.1", 0),)
    assert refusal(**given, http_redirect=True) == (
        "HTTP_REDIRECT: needs an HTTPS_LISTEN that names its port"
    )
    given["https_listen"] = "127.0.0.1:8000"
    assert refusal(**given) == "HTTPS_LISTEN: 127.0.0.1:8000 is taken by PORT, on 0.0.0.0:8000"


class TestProduction:
    def test_a_strong_key_will_do(self):
        settings = load_settings(app_env="production", api_secret_key=STRONG)
        assert settings.api_secret_key == SecretStr(STRONG)

    def test_a_missing_key_is_refused(self):
        line = refusal(app_env="production")
        assert line.startswith("API_SECRET_KEY: required with APP_ENV=production")

    @pytest.mark.parametrize("key", ["short", "fifteen-chars-x"])
    def test_a_short_key_is_refused(self, key):
        line = refusal(app_env="production", api_secret_key=key)
        assert line == "API_SECRET_KEY: a key with APP_ENV=production has 16 characters or more"

    @pytest.mark.parametrize(
        "key",
        [
            "your-secret-key-min-16-chars",
            "<strong-random-key>",
            "change-me-change-me",
            "please_change_me_now_1234",
            "supersecretpassword123",
            "my-super-secret-admin-key",
            "aaaaaaaaaaaaaaaaaaaa",
            "abababababababababab",
            "1234567890123456",
            "abcdefghijklmnopqrst",
            "0123456789abcdef0123456789abcdef",
        ],
    )
    def test_an_example_key_is_refused(self, key):
        line = refusal(app_env="production", api_secret_key=key)
        assert line.startswith("API_SECRET_KEY: is an example or easily guessed")
        assert key not in line
        assert load_settings(api_secret_key=key).api_secret_key == SecretStr(key)

    @pytest.mark.parametrize("name", ["device_api_keys", "metrics_token"])
    def test_other_keys_are_held_to_the_same(self, name):
        line = refusal(app_env="production", api_secret_key=STRONG, **{name: "key1"})
        assert line.startswith(f"{name.upper()}: a key with APP_ENV=production")

    def test_debug_and_anonymous_role_are_refused(self):
        given = {"app_env": "production", "api_secret_key": STRONG}
        assert refusal(**given, debug=True) == "DEBUG: should be false with APP_ENV=production"
        line = refusal(**given, anonymous_role="viewer")
        assert line == "ANONYMOUS_ROLE: should be empty with APP_ENV=production"

    @given(st.binary(min_size=16, max_size=32))
    def test_random_keys_pass(self, content):
        key = content.hex()
        if len(set(key)) >= 8 and not key.isdigit():
            load_settings(app_env="production", api_secret_key=key)


class TestGeneratedKey:
    def test_is_made_kept_and_found_again(self, tmp_path):
        settings = load_settings(data_directory=str(tmp_path / "deep" / "data"))
        first, generated = ensure_api_secret_key(settings)
        path = tmp_path / "deep" / "data" / "api_secret_key"
        assert generated
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert first.api_secret_key is not None
        assert len(first.api_secret_key.get_secret_value()) >= 32
        second, generated = ensure_api_secret_key(settings)
        assert not generated
        assert second.api_secret_key == first.api_secret_key
        assert [file.name for file in path.parent.iterdir()] == ["api_secret_key"]

    def test_a_given_key_is_left_alone(self, tmp_path):
        settings = load_settings(data_directory=str(tmp_path), api_secret_key=STRONG)
        assert ensure_api_secret_key(settings) == (settings, False)
        assert list(tmp_path.iterdir()) == []

    def test_all_who_start_at_once_get_the_same(self, tmp_path):
        settings = load_settings(data_directory=str(tmp_path))
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda _: ensure_api_secret_key(settings), range(8)))
        assert len({result.api_secret_key for result, _ in results}) == 1
        assert sum(generated for _, generated in results) == 1

    def test_an_unusable_file_is_an_error(self, tmp_path):
        (tmp_path / "api_secret_key").write_text("")
        with pytest.raises(StartError, match="holds no usable key"):
            ensure_api_secret_key(load_settings(data_directory=str(tmp_path)))

    def test_an_unusable_folder_is_an_error(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(StartError, match=r"API_SECRET_KEY: cannot keep one in .*: Not a dir"):
            ensure_api_secret_key(load_settings(data_directory=str(tmp_path / "file" / "data")))


class TestShown:
    def test_secrets_are_masked_everywhere(self):
        settings = load_settings(
            api_secret_key="hidden-admin",
            device_api_keys="hidden-one,hidden-two",
            metrics_token="hidden-token",
            database_url="postgresql://user:hidden@p/ss@host/d?password=hidden",
        )
        masked = settings.masked()
        assert "hidden" not in json.dumps(masked)
        assert "hidden" not in repr(settings)
        assert masked["API_SECRET_KEY"] == MASK
        assert masked["DEVICE_API_KEYS"] == [MASK, MASK]
        assert masked["DATABASE_URL"] == f"postgresql://user:{MASK}@host/d?password={MASK}"

    def test_names_are_the_variables(self):
        masked = load_settings(mqtt_listen="[::]:1883").masked()
        assert list(masked) == NAMES
        assert masked["MQTT_LISTEN"] == ["[::]:1883"]
        assert masked["DATA_DIRECTORY"] == "./data"
        assert masked["API_SECRET_KEY"] is None


@pytest.mark.parametrize(
    "text",
    [
        *("ftp://h/canary", "https:///canary", "http://[::canary/", "http://name:canary@h:99999/"),
        *("https://h/a canary", "canary", f"https://h/canary{'a' * 2_040}"),
    ],
)
def test_a_heartbeat_leads_to_a_web_address_and_a_refusal_shows_nothing_of_it(text):
    told = refusal(heartbeat_url=text)
    assert told == "HEARTBEAT_URL: should be a URL like https://example.org/path"
    settings = load_settings(heartbeat_url="https://name:canary@[::1]:8443/ping?canary#x")
    assert settings.masked()["HEARTBEAT_URL"] == MASK


def test_secrets_that_can_change_are_kept_out_of_the_log_from_then_on():
    secrets = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field)}
    assert secrets & Settings().changeable == set(OF_SECRETS)


def test_the_log_hides_what_is_secret_alone_or_among_several():
    settings = Settings(device_api_keys="key-of-one,key-of-two", metrics_token="a-token")
    assert {"key-of-one", "key-of-two", "a-token"} <= set(settings.clear_secrets())
