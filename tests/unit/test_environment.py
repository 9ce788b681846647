"""Where settings come from: arguments, the environment, `.env`, files; and the example file."""

import itertools
import os
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values
from pydantic import SecretStr

from bare_environment import NAMES, refusal, work_in
from heliograph.settings import Settings, load_settings, mistyped_variables

EXAMPLE = Path(__file__).parents[2] / ".env.example"
STRONG = "b7Xq2mZr9tLk4WcV8sNf"


@pytest.fixture(autouse=True)
def no_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(tmp_path, monkeypatch)


class TestSources:
    def test_environment_wins_over_env_file_and_arguments_over_both(self, monkeypatch):
        Path(".env").write_text("PORT=1001\nHOST=127.0.0.2\nLOG_LEVEL=error\n")
        monkeypatch.setenv("PORT", "1002")
        monkeypatch.setenv("LOG_LEVEL", "warning")
        settings = load_settings(log_level="debug")
        assert (settings.host, settings.port, settings.log_level) == ("127.0.0.2", 1002, "debug")

    def test_foreign_variables_in_the_env_file_are_ignored(self):
        Path(".env").write_text("COMPOSE_PROJECT=x\nif true; then\nPORT=1003\nfoo bar\n")
        assert load_settings().port == 1003

    def test_a_line_that_should_set_a_variable_but_does_not_is_an_error(self):
        Path(".env").write_text("PORT=1003\n\nAPI_SECRET_KEY='unclosed\n")
        assert refusal() == ".env: API_SECRET_KEY on line 3 is not NAME=value"

    def test_a_mistyped_variable_is_told_what_was_meant(self, monkeypatch):
        monkeypatch.setenv("RATE_LIMIT_REED", "1")
        monkeypatch.setenv("DATABASE_URI", "x")
        monkeypatch.setenv("DATABASE_URL", "sqlite:///x.db")
        monkeypatch.setenv("MQTT_LISTEN", "")
        mistyped = {
            "MQTT_LISTN": "MQTT_LISTEN",
            "mqtt_url": "MQTT_URL",
            "MQTT_USER": "MQTT_USERNAME",
            "LOG_LEVL": "LOG_LEVEL",
            "API_SECRET": "API_SECRET_KEY",
            "DEVICE_API_KEY": "DEVICE_API_KEYS",
            "MQTT_PASSWRD_FILE": "MQTT_PASSWORD_FILE",
        }
        others = ("POSTGRES_USER", "MYSQL_PASSWORD", "COMPOSE_PROJECT", "HOSTNAME", "APP", "TZ")
        others += ("MQTT_HOST", "MQTT_BROKER_URL", "SERVER_PORT", "LOG_FILE", "HTTP_PORT", "PORT")
        lines = [f"{name}=" for name in (*mistyped, *others)]
        Path(".env").write_text("\n".join(lines))
        expected = [(name, meant, ".env") for name, meant in mistyped.items()]
        expected.append(("RATE_LIMIT_REED", "RATE_LIMIT_READ", "the environment"))
        assert mistyped_variables() == expected

    def test_every_setting_is_one(self):
        Path(".env").write_text("".join(f"{name}=\n{name}_FILE=\n" for name in NAMES))
        assert mistyped_variables() == []

    def test_an_env_file_that_is_not_text(self):
        Path(".env").write_bytes(b"PORT=\xff\xfe\n")
        assert refusal() == ".env: cannot read it: not UTF-8 text"

    def test_an_env_file_may_begin_with_a_byte_order_mark(self):
        Path(".env").write_bytes(b"\xef\xbb\xbfPORT=1004\n")
        assert load_settings().port == 1004

    def test_empty_means_default(self, monkeypatch):
        for name in NAMES:
            if name != "MQTT_LISTEN":
                monkeypatch.setenv(name, "")
        assert load_settings() == Settings()
        assert load_settings().port == 8000

    def test_empty_in_the_environment_takes_back_what_the_env_file_says(self, monkeypatch):
        Path(".env").write_text("ANONYMOUS_ROLE=owner\nPORT=1005\n")
        monkeypatch.setenv("ANONYMOUS_ROLE", "")
        monkeypatch.setenv("PORT", "")
        settings = load_settings()
        assert (settings.anonymous_role, settings.port) == ("", 8000)

    def test_empty_mqtt_listen_means_nowhere(self, monkeypatch):
        monkeypatch.setenv("MQTT_LISTEN", "")
        assert load_settings().mqtt_listen == ()

    @pytest.mark.parametrize("name", ["API_SECRET_KEY", "DATABASE_URL", "METRICS_TOKEN", "PORT"])
    def test_any_variable_may_come_from_a_file(self, monkeypatch, tmp_path, name):
        value = {"DATABASE_URL": "postgresql://u:p@h/d", "PORT": "1006"}.get(name, STRONG)
        (tmp_path / "secret").write_text(f"  {value}\n")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
        got = getattr(load_settings(), name.lower())
        assert str(got.get_secret_value() if isinstance(got, SecretStr) else got) == value

    def test_name_and_file_together_are_refused(self, monkeypatch, tmp_path):
        (tmp_path / "secret").write_text(STRONG)
        monkeypatch.setenv("API_SECRET_KEY", STRONG)
        monkeypatch.setenv("API_SECRET_KEY_FILE", str(tmp_path / "secret"))
        assert refusal() == "API_SECRET_KEY: set together with API_SECRET_KEY_FILE; keep one"
        monkeypatch.setenv("API_SECRET_KEY", "")
        assert load_settings().api_secret_key == SecretStr(STRONG)

    def test_the_environment_wins_in_either_form(self, monkeypatch, tmp_path):
        (tmp_path / "url").write_text("postgresql://file/d")
        Path(".env").write_text("DATABASE_URL=postgresql://dotenv/d\n")
        monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "url"))
        assert load_settings().database_url == "postgresql://file/d"

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, "No such file or directory"),
            (b"", "is empty"),
            (b" \n", "is empty"),
            (b"\xff\xff", "is not UTF-8 text"),
            (b"x" * 70_000, "is longer than 65536 bytes"),
        ],
    )
    def test_a_file_without_a_secret(self, monkeypatch, tmp_path, content, words):
        if content is not None:
            (tmp_path / "secret").write_bytes(content)
        monkeypatch.setenv("METRICS_TOKEN_FILE", str(tmp_path / "secret"))
        line = refusal()
        assert line.startswith("METRICS_TOKEN_FILE: ")
        assert words in line


class TestFormerSystem:
    def test_its_env_file_is_taken_as_it_was_documented(self):
        Path(".env").write_text(
            """\
# Database
DATABASE_URL=sqlite+aiosqlite:///./dev.db

# Security
API_SECRET_KEY=your-secret-key-min-16-chars
DEVICE_API_KEYS=key1,key2,key3

# Server
HOST=0.0.0.0
PORT=8000
DEBUG=true

# Logging
LOG_LEVEL=info
LOG_FORMAT=console  # or json
"""
        )
        settings = load_settings()
        assert settings.database_url == "sqlite+aiosqlite:///./dev.db"
        assert settings.api_secret_key == SecretStr("your-secret-key-min-16-chars")
        assert settings.device_api_keys == tuple(map(SecretStr, ("key1", "key2", "key3")))
        assert (settings.host, settings.port, settings.debug) == ("0.0.0.0", 8000, True)
        assert (settings.log_level, settings.log_format) == ("info", "console")

    def test_its_production_settings_are_taken(self, monkeypatch):
        for name, value in (
            ("DATABASE_URL", "postgresql+asyncpg://user:pass@host/db"),
            ("API_SECRET_KEY", STRONG),
            ("APP_ENV", "production"),
            ("DEBUG", "false"),
            ("LOG_FORMAT", "json"),
        ):
            monkeypatch.setenv(name, value)
        settings = load_settings()
        assert (settings.app_env, settings.debug, settings.log_format) == (
            "production",
            False,
            "json",
        )


class TestExampleFile:
    def test_lists_every_variable_with_its_default(self, monkeypatch):
        values = dotenv_values(EXAMPLE)
        assert sorted(values) == sorted(NAMES)
        default = Settings()
        for name, value in values.items():
            monkeypatch.setenv(name, value or "")
        # As dictionaries, which name what differs.
        assert dict(load_settings()) == dict(default)

    def test_means_the_same_to_a_shell(self):
        script = f"set -aeu; source {EXAMPLE}; exec env -0"
        bare = {"PATH": os.environ["PATH"]}
        output = subprocess.run(
            ["bash", "-c", script], env=bare, capture_output=True, check=True, timeout=30
        )
        assert output.stderr == b""
        pairs = (item.split("=", 1) for item in output.stdout.decode().split("\0") if item)
        sourced = {name: value for name, value in pairs if name in NAMES}
        assert sourced == dotenv_values(EXAMPLE)

    def test_has_one_comment_line_for_each_variable(self):
        lines = EXAMPLE.read_text().splitlines()
        for above, line in itertools.pairwise(lines):
            if line and not line.startswith("#"):
                assert above.startswith("# "), line
        assert all(len(line) <= 110 for line in lines)
