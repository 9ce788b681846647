"""Where a command finds the server of its machine, and to whom it sends its key."""

import pytest

from heliograph.cli.local_server import admin_key, default_url
from heliograph.errors import StartError


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "81")
    monkeypatch.setenv("API_SECRET_KEY", "k" * 40)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:81"),
        ("::", "http://127.0.0.1:81"),
        ("127.0.0.1", "http://127.0.0.1:81"),
        ("::1", "http://[::1]:81"),
        ("192.0.2.7", "http://192.0.2.7:81"),
    ],
)
def test_a_server_is_called_where_it_listens(monkeypatch, host, url):
    monkeypatch.setenv("HOST", host)
    assert default_url("127.0.0.1") == url


def test_the_key_of_the_settings_goes_to_their_server_alone(monkeypatch):
    monkeypatch.setenv("HOST", "192.0.2.7")
    assert admin_key(None, "192.0.2.7").text == "k" * 40
    with pytest.raises(StartError, match="required for another machine"):
        admin_key(None, "192.0.2.8")
