import gc

from heliograph.access.authenticator import ADMIN
from heliograph.model.principal import Principal
from heliograph.mqtt.reading import Routes, RoutesOfAll

DEVICE = Principal("device", "device:pump", sensor=1)


def test_connections_of_one_principal_share_their_routes():
    routes = RoutesOfAll()
    first = routes.of(DEVICE, 1)
    first[b"logs/pump"] = "route"
    assert routes.of(Principal("device", "device:pump", sensor=1), 1) is first
    assert routes.of(ADMIN, 1) == {}


def test_a_change_of_the_registry_ends_them_all():
    routes = RoutesOfAll()
    first = routes.of(DEVICE, 1)
    first[b"logs/pump"] = "route"
    assert routes.of(DEVICE, 2) == {}
    assert first.generation == 2


def test_they_go_with_the_last_connection():
    routes = RoutesOfAll()
    first = routes.of(DEVICE, 1)
    first[b"logs/pump"] = "route"
    del first
    gc.collect()
    assert routes.of(DEVICE, 1) == {}


def test_what_leads_nowhere_costs_nobody_his_place(monkeypatch):
    monkeypatch.setattr("heliograph.mqtt.reading.MAXIMUM_REFUSED_ROUTES", 2)
    routes = Routes()
    routes.keep(b"logs/pump", "route", accepted=True)
    for number in range(5):
        routes.keep(b"nothing/%d" % number, "refusal", accepted=False)
        assert routes[b"nothing/%d" % number] == "refusal"
        assert len(routes) <= 3
    assert routes[b"logs/pump"] == "route"


def test_long_topics_are_not_collected(monkeypatch):
    monkeypatch.setattr("heliograph.mqtt.reading.LONGEST_KEPT_TOPIC", 8)
    routes = Routes()
    for number in range(5):
        routes.keep(b"nothing/%d" % number, "refusal", accepted=False)
    assert list(routes) == [b"nothing/4"]


def test_routes_are_bounded(monkeypatch):
    monkeypatch.setattr("heliograph.mqtt.reading.MAXIMUM_ROUTES", 3)
    routes = Routes()
    for number in range(10):
        routes.keep(b"logs/%d" % number, "route", accepted=number % 2 == 0)
        assert b"logs/%d" % number in routes
        assert len(routes) <= 3
