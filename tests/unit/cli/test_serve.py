"""What `heliograph serve` hands to the HTTP server, and how it stops."""

import contextlib
import resource
import signal
import socket

import pytest

from heliograph.app import create_app
from heliograph.cli import serve
from heliograph.errors import StartError
from heliograph.settings import Settings
from heliograph.systemd import HandedSockets


def settings(**values: object) -> Settings:
    return Settings(**{"host": "127.0.0.1", "port": 0, "mqtt_listen": (), **values})


def config(**values: object) -> serve.uvicorn.Config:
    return serve._config(settings(**values), create_app(), access_log=False)


def bind(**values: object) -> socket.socket:
    return serve._bind(*next(serve._places(settings(**values))), HandedSockets())


def test_nobody_is_believed_about_addresses_unless_named():
    assert not config().proxy_headers
    named = config(trusted_proxies="127.0.0.1, 10.0.0.0/8")
    assert named.proxy_headers
    assert named.forwarded_allow_ips == ["127.0.0.1/32", "10.0.0.0/8"]


def test_the_server_does_not_say_what_it_is():
    assert not config().server_header


def test_a_second_signal_does_not_wait():
    server = serve.HttpServer(config())
    server.stop()
    assert (server.should_exit, server.force_exit) == (True, False)
    server.stop()
    assert (server.should_exit, server.force_exit) == (True, True)


def test_a_bound_socket_lets_nobody_in_yet():
    with contextlib.closing(bind()) as bound:
        address = bound.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)


def test_a_taken_port_is_an_error_that_names_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"HOST=127.0.0.1 PORT={port}: Address already in use"):
            bind(port=port)


def test_an_unknown_host_is_an_error_that_names_it():
    with pytest.raises(StartError, match=r"HOST=nowhere\.invalid"):
        bind(host="nowhere.invalid")


def test_as_many_files_as_connections_may_be_open(monkeypatch):
    limits = {"now": (1_024, 4_096)}
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _which, pair: limits.update(now=pair))
    serve._raise_file_limit(settings(mqtt_max_connections=1_000))
    assert limits["now"] == (1_000 + serve.OTHER_FILES, 4_096)
    serve._raise_file_limit(settings(mqtt_max_connections=100_000))
    assert limits["now"] == (4_096, 4_096)
    serve._raise_file_limit(settings(mqtt_max_connections=1))
    assert limits["now"] == (4_096, 4_096)


def test_a_closed_terminal_ends_it_unless_it_is_to_outlive_it(monkeypatch):
    handlers = {signal.SIGHUP: signal.SIG_DFL}
    monkeypatch.setattr(signal, "getsignal", handlers.get)
    assert signal.SIGHUP in serve._ending_signals()
    handlers[signal.SIGHUP] = signal.SIG_IGN  # by nohup
    assert serve._ending_signals() == (signal.SIGTERM, signal.SIGINT)
