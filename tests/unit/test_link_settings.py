"""Settings of the link to an external broker."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from bare_environment import refusal, work_in
from heliograph.address import Address
from heliograph.masking import MASK
from heliograph.settings import load_settings


@pytest.fixture(autouse=True)
def no_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(tmp_path, monkeypatch)


def test_with_a_broker_there_is_no_listener_unless_it_is_asked_for(monkeypatch):
    url = "mqtt://broker"
    assert load_settings(mqtt_url=url).mqtt_listen == ()
    both = load_settings(mqtt_url=url, mqtt_listen="0.0.0.0:1883")
    assert both.mqtt_listen == (Address("0.0.0.0", 1883),)
    monkeypatch.setenv("MQTT_URL", url)
    assert load_settings().mqtt_listen == ()
    monkeypatch.setenv("MQTT_LISTEN", "[::]:1884")
    assert load_settings().mqtt_listen == (Address("::", 1884),)
    monkeypatch.delenv("MQTT_URL")
    monkeypatch.setenv("MQTT_LISTEN", "")
    assert load_settings().mqtt_listen == ()


def test_without_a_broker_the_listener_is_there(monkeypatch):
    monkeypatch.setenv("MQTT_URL", "")
    assert load_settings().mqtt_listen == (Address("0.0.0.0", 1883),)


def test_defaults():
    settings = load_settings(mqtt_url="mqtt://broker")
    assert settings.mqtt_client_id == "heliograph"
    assert settings.mqtt_shared is False
    assert (settings.mqtt_username, settings.mqtt_password) == (None, None)


def test_sharing_needs_a_broker_and_postgresql():
    url, database = "mqtt://broker", "postgresql://h/d"
    assert refusal(mqtt_shared=True, database_url=database) == (
        "MQTT_SHARED: needs a broker (MQTT_URL); the listener shares nothing"
    )
    assert refusal(mqtt_shared=True, mqtt_url=url) == (
        "MQTT_SHARED: needs PostgreSQL; a SQLite file serves one server only"
    )
    assert load_settings(mqtt_shared=True, mqtt_url=url, database_url=database).mqtt_shared


@pytest.mark.parametrize("name", ["tls_ca", "tls_certificate", "tls_key", "tls_server_name"])
def test_what_is_for_tls_needs_it(tmp_path, name):
    given = tmp_path / "a.pem"
    given.touch()
    name = f"mqtt_url_{name}"
    line = f"{name.upper()}: needs an MQTT_URL that begins with mqtts://"
    assert refusal(mqtt_url="mqtt://broker", **{name: str(given)}) == line
    assert refusal(**{name: str(given)}) == line


def test_files_for_tls_must_exist_and_go_together(tmp_path):
    existing = tmp_path / "a.pem"
    existing.touch()
    url = {"mqtt_url": "mqtts://broker"}
    for name in ("tls_ca", "tls_certificate", "tls_key"):
        line = refusal(**url, **{f"mqtt_url_{name}": "nowhere"})
        assert line == f"MQTT_URL_{name.upper()}: there is no file 'nowhere'"
    together = "MQTT_URL_TLS_CERTIFICATE: goes together with MQTT_URL_TLS_KEY"
    assert refusal(**url, mqtt_url_tls_certificate=str(existing)) == together
    assert refusal(**url, mqtt_url_tls_key=str(existing)) == together
    files = dict.fromkeys(
        ("mqtt_url_tls_ca", "mqtt_url_tls_certificate", "mqtt_url_tls_key"), str(existing)
    )
    settings = load_settings(**url, **files, mqtt_url_tls_server_name="b.example")
    assert settings.mqtt_url_tls_ca == existing
    assert settings.mqtt_url_tls_server_name == "b.example"


def test_a_password_from_a_file(tmp_path, monkeypatch):
    path = tmp_path / "password"
    path.write_text("hidden words\n")
    monkeypatch.setenv("MQTT_PASSWORD_FILE", str(path))
    settings = load_settings(mqtt_url="mqtt://broker", mqtt_username="name")
    assert settings.mqtt_password == SecretStr("hidden words")
    assert settings.masked()["MQTT_PASSWORD"] == MASK


def test_a_url_from_a_file(tmp_path, monkeypatch):
    path = tmp_path / "url"
    path.write_text("mqtts://u:hidden@broker\n")
    monkeypatch.setenv("MQTT_URL_FILE", str(path))
    settings = load_settings()
    assert settings.mqtt_url == "mqtts://u:hidden@broker"
    assert settings.mqtt_listen == ()


def test_nothing_secret_is_shown():
    settings = load_settings(
        mqtt_url="mqtts://name:hid%20den@broker:8884",
        mqtt_username="name",
        mqtt_password="hidden",
    )
    masked = settings.masked()
    assert "hid" not in json.dumps(masked) + repr(settings) + str(settings)
    assert masked["MQTT_URL"] == f"mqtts://name:{MASK}@broker:8884"
    assert masked["MQTT_PASSWORD"] == MASK
    assert masked["MQTT_USERNAME"] == "name"
