"""Secrets: encrypted with the first key, read with any, given encrypted among the settings."""

import contextlib
import io
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bare_environment import refusal, work_in
from heliograph.cli.main import app
from heliograph.cli.secrets import encrypt
from heliograph.errors import StartError
from heliograph.secrets import (
    Secrets,
    UndecipherableError,
    add_key,
    ensure_secrets,
    find_secrets,
    new_key,
)
from heliograph.settings import load_settings

STRONG = "b7Xq2mZr9tLk4WcV8sNf"
OLD, NEW, OTHER = new_key(), new_key(), new_key()
MAKE_ONE = "make one with: heliograph secrets key"
WRONG = "can't be decrypted: it was encrypted with another key, or is damaged"


@pytest.fixture(autouse=True)
def no_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(tmp_path, monkeypatch)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def command(*arguments: str, text: str = "", **environment: str) -> str:
    result = CliRunner().invoke(app, ["secrets", *arguments], input=text, env=environment)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@given(st.text())
def test_what_is_encrypted_is_decrypted_and_shows_nothing(text):
    secrets = Secrets([OLD])
    encrypted = secrets.encrypt(text)
    assert encrypted.startswith("enc:")
    assert len(text) < 4 or text not in encrypted
    assert encrypted != secrets.encrypt(text)
    assert Secrets([NEW, OLD]).decrypt(encrypted) == text


def test_only_the_keys_that_there_are_decrypt_and_only_what_is_whole():
    encrypted = Secrets([NEW, OLD]).encrypt("hidden")
    assert Secrets([NEW]).decrypt(encrypted) == "hidden"
    damaged = encrypted[:-9] + ("A" if encrypted[-9] != "A" else "B") + encrypted[-8:]
    for secrets, text in ((Secrets([OLD]), encrypted), (Secrets([NEW]), damaged)):
        with pytest.raises(UndecipherableError):
            secrets.decrypt(text)
    with pytest.raises(UndecipherableError):
        Secrets([NEW]).decrypt("enc:ünreadable")


def test_keys_are_never_shown(tmp_path):
    load_settings(secrets_key=OLD)
    assert OLD not in repr(Secrets([OLD])) + repr(load_settings(secrets_key=OLD))
    assert OLD not in str(load_settings(secrets_key=OLD).masked())
    path = tmp_path / "keys"
    assert command("key", str(path)) == f"{path}: 1 key\n"


def test_the_key_is_looked_for_in_settings_credentials_and_the_data_folder(tmp_path, monkeypatch):
    assert find_secrets(None, tmp_path) is None
    for number, key in enumerate((OLD, NEW, OTHER)):
        if number == 0:
            (tmp_path / "secrets_key").write_text(key)
        if number == 1:
            (tmp_path / "credentials").mkdir()
            (tmp_path / "credentials" / "secrets_key").write_text(key + "\n")
            monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
        found = find_secrets(key if number == 2 else None, tmp_path)
        assert found is not None
        assert Secrets([key]).decrypt(found.encrypt("x")) == "x"
    (tmp_path / "credentials" / "secrets_key").write_text("no key")
    with pytest.raises(StartError, match=f"should hold keys, one a line; {MAKE_ONE}"):
        find_secrets(None, tmp_path)
    assert refusal(secrets_key="no key") == (
        f"SECRETS_KEY: SECRETS_KEY should hold keys, one a line; {MAKE_ONE}"
    )


def test_in_development_a_key_is_made_once(tmp_path):
    folder = tmp_path / "deep" / "data"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ensure_secrets(None, folder, is_production=False), range(8)))
    assert {each.decrypt(made[0].encrypt("x")) for each in made} == {"x"}
    assert stat.S_IMODE((folder / "secrets_key").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["secrets_key"]


def test_in_production_a_key_is_made_only_when_asked_for(tmp_path):
    settings = load_settings(
        app_env="production", api_secret_key=STRONG, data_directory=str(tmp_path)
    )
    line = f"SECRETS_KEY: required with APP_ENV=production to encrypt; {MAKE_ONE}"
    with pytest.raises(StartError, match=line):
        settings.secrets()
    assert list(tmp_path.iterdir()) == []
    command("key", DATA_DIRECTORY=str(tmp_path), APP_ENV="production")
    assert settings.secrets().decrypt(settings.secrets().encrypt("x")) == "x"


def test_a_new_key_goes_in_front_and_the_former_decrypt(tmp_path):
    path = tmp_path / "keys"
    assert add_key(path) == 1
    former = Secrets([path.read_text().strip()]).encrypt("x")
    assert command("key", str(path)) == f"{path}: 2 keys, of which the first is new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    both = find_secrets(path.read_text(), tmp_path)
    assert both is not None
    assert both.decrypt(former) == "x"
    with pytest.raises(UndecipherableError):
        Secrets(path.read_text().split()[1:]).decrypt(both.encrypt("x"))
    path.write_text("what somebody wrote")
    with pytest.raises(StartError, match="should hold keys"):
        add_key(path)
    assert path.read_text() == "what somebody wrote"
    with pytest.raises(StartError, match="SECRETS_KEY is set: name the file that holds its keys"):
        command("key", SECRETS_KEY=OLD)


def test_a_secret_is_encrypted_before_the_other_settings_are_right():
    encrypted = command("encrypt", text=f"{STRONG}\n", SECRETS_KEY=OLD, APP_ENV="production")
    assert STRONG not in encrypted
    Path(".env").write_text(f"API_SECRET_KEY={encrypted}SECRETS_KEY={OLD}\nAPP_ENV=production\n")
    key = load_settings().api_secret_key
    assert key is not None
    assert key.get_secret_value() == STRONG
    with pytest.raises(StartError, match="a secret has 1 to 65536 characters"):
        command("encrypt", text="\n", SECRETS_KEY=OLD)
    Path(".env").unlink()
    with pytest.raises(StartError, match=f"there is no key, not in ./data either; {MAKE_ONE}"):
        command("encrypt", text="x")
    assert not Path("data").exists()


def test_at_a_terminal_a_secret_is_asked_for_and_not_shown(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    asked: dict[str, object] = {}

    def prompt(text: str, **options: object) -> str:
        asked.update(options, text=text)
        return "hidden"

    monkeypatch.setattr("heliograph.cli.secrets.typer.prompt", prompt)
    monkeypatch.setattr("heliograph.cli.secrets.sys.stdin", Terminal())
    monkeypatch.setenv("SECRETS_KEY", OLD)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        encrypt()
    how = {"hide_input": True, "confirmation_prompt": True, "err": True}
    assert asked == {"text": "Secret", **how}
    assert Secrets([OLD]).decrypt(printed.getvalue().strip()) == "hidden"


def test_settings_are_given_encrypted(tmp_path, monkeypatch):
    secrets = Secrets([OLD])
    (tmp_path / "url").write_text(secrets.encrypt("postgresql://u:hidden@h/d"))
    (tmp_path / "keys").write_text(OLD)
    one, two = secrets.encrypt("key-1"), secrets.encrypt("key-2")
    Path(".env").write_text(
        f"SECRETS_KEY_FILE={tmp_path / 'keys'}\nDATABASE_URL_FILE={tmp_path / 'url'}\n"
        f"DEVICE_API_KEYS={one}, {two},key-3\nMETRICS_TOKEN={secrets.encrypt('token')}\n"
    )
    settings = load_settings()
    assert settings.database_url == "postgresql://u:hidden@h/d"
    assert [key.get_secret_value() for key in settings.device_api_keys] == [
        "key-1",
        "key-2",
        "key-3",
    ]
    assert settings.metrics_token is not None
    assert settings.metrics_token.get_secret_value() == "token"
    # Decrypted they are held to the same rules.
    monkeypatch.setenv("METRICS_TOKEN", secrets.encrypt("two words"))
    line = "METRICS_TOKEN: should be 1 to 256 visible ASCII characters without spaces"
    assert refusal() == line


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"SECRETS_KEY": NEW, "METRICS_TOKEN": "{}"}, f"METRICS_TOKEN: {WRONG}"),
        ({"SECRETS_KEY": OLD, "METRICS_TOKEN": "enc:x"}, f"METRICS_TOKEN: {WRONG}"),
        ({"METRICS_TOKEN": "{}"}, f"METRICS_TOKEN: is encrypted, and there is no key; {MAKE_ONE}"),
        (
            {"SECRETS_KEY": OLD, "MQTT_USERNAME": "{}"},
            "MQTT_USERNAME: is no secret, and can't be given encrypted",
        ),
        ({"SECRETS_KEY": "{}"}, "SECRETS_KEY: is what decrypts, and can't be given encrypted"),
    ],
)
def test_what_can_not_be_decrypted_stops_the_start(monkeypatch, variables, line):
    encrypted = Secrets([OLD]).encrypt("hidden")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(encrypted))
    assert refusal() == line
    assert not Path("data").exists()
