"""What is written for brokers, without any broker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.brokers.dynamic_security import PluginState, mark, plan, plugin_file
from heliograph.brokers.mosquitto import (
    BEGIN,
    END,
    BrokenSectionError,
    acl_file,
    hash_password,
    join_section,
    parse,
    password_file,
    split_section,
    verifies,
)
from heliograph.brokers.rules import AccessRules, ServerAccount, is_user_name, packet_topic
from heliograph.ingest.mqtt_ingest import KINDS
from heliograph.model.credentials import broker_password, hash_key, new_api_key
from heliograph.mqtt.codec.topics import match
from heliograph.mqtt.topics import PUBLISHED, READ, TopicKind, parse_device_topic
from heliograph.store.brokers import DeviceAccess

UUID = "0b1c2d3e-0000-4000-8000-00000000000"
LINES = st.lists(
    st.text(st.characters(codec="ascii", categories=("L", "N", "P")), max_size=20), max_size=8
)


def rules_of(name):
    return AccessRules.of(name, publish_topic="commands", subscribe_topic="packets/+")


def test_a_device_may_publish_where_the_listener_takes_it_and_nowhere_else():
    for first in (*PUBLISHED, *READ):
        kind, _ = parse_device_topic(f"{first}/x")
        assert (kind in KINDS) == (first in PUBLISHED)
    assert {parse_device_topic(f"{first}/x")[0] for first in PUBLISHED} == set(KINDS)
    assert (TopicKind.CONFIGURATIONS.value,) == READ


@pytest.mark.parametrize(
    ("subscribed", "topic"),
    [
        ("packets/+", "packets/%u"),
        ("a/+/b", "a/%u/b"),
        ("packets", None),
        ("+/+", None),
        ("a/#", None),
        ("+/#", None),
    ],
)
def test_packets_are_for_a_topic_of_the_devices_own(subscribed, topic):
    assert packet_topic(subscribed, "%u") == topic
    if topic is not None:
        assert match(subscribed, topic)


@pytest.mark.parametrize("name", ["a b", "a:b", "#a", "a/b", "+", "%u", "$SYS", "", "a\nuser b"])
def test_names_that_mean_more_than_one_account(name):
    assert not is_user_name(name)
    assert is_user_name("heliograph-1")


def test_a_keys_form_for_brokers():
    key = new_api_key()
    first, second = broker_password(key), broker_password(key)
    assert first != second
    assert verifies(first, key)
    assert not verifies(first, new_api_key())
    assert parse(first).iterations == 1


@pytest.mark.parametrize(
    "text",
    ["", "x", "$7$", "$6$a$b", "$7$0$YQ==$YQ==", "$7$1$!$YQ==", "$7$x$YQ==$YQ==", "$7$²$a$b"],
)
def test_what_is_no_hash(text):
    assert parse(text) is None
    assert not verifies(text, "x")


@given(before=LINES, after=LINES, own=LINES, other=LINES)
def test_what_others_wrote_stays(before, after, own, other):
    text = join_section(before, own, after)
    assert split_section(text) == (before, own, after)
    assert split_section(join_section(before, other, after))[::2] == (before, after)


@pytest.mark.parametrize(
    "text",
    [
        BEGIN,
        END,
        f"{END}\n{BEGIN}",
        f"{BEGIN}\n{BEGIN}\n{END}",
    ],
)
def test_marks_that_do_not_fit_together(text):
    with pytest.raises(BrokenSectionError):
        acl_file(text, rules_of("%u"), "heliograph")


def test_an_acl_file_is_the_same_again():
    text = acl_file("user x\ntopic read a\n", rules_of("%u"), "heliograph")
    assert text.startswith("user x\ntopic read a\n")
    assert acl_file(text, rules_of("%u"), "heliograph") == text
    assert text.count("pattern write") == len(PUBLISHED) + 1


def test_a_password_file_keeps_people_and_replaces_devices():
    server = ServerAccount("heliograph", "secret")
    text = password_file(f"ada:$7$x\n{UUID}0:old\n{UUID}1:gone\n", [(f"{UUID}0", "new")], server)
    lines = dict(line.split(":", 1) for line in text.splitlines())
    assert set(lines) == {"ada", "heliograph", f"{UUID}0"}
    assert lines["ada"] == "$7$x"
    assert lines[f"{UUID}0"] == "new"
    assert verifies(lines["heliograph"], "secret")
    assert password_file(text, [(f"{UUID}0", "new")], server) == text
    changed = password_file(text, [], ServerAccount("heliograph", "other"))
    assert verifies(changed.splitlines()[-1].partition(":")[2], "other")
    assert password_file("ada:x\n", [], ServerAccount("ada")) == "ada:x\n"


def device(number, *, key="k", is_active=True, password=None):
    name = f"{UUID}{number}"
    return DeviceAccess(number, name, None, is_active, hash_key(key), password)


def test_a_plan_for_an_empty_plugin_makes_everything_once():
    devices = [device(0), device(1), device(2, is_active=False)]
    made = plan(devices, PluginState({}, {}), {f"{UUID}0": "k"}, rules_of, ServerAccount("h", "p"))
    assert [c["command"] for c in made.commands] == [
        *("createRole", "createClient"),
        *("createRole", "createClient", "createRole"),
    ]
    assert made.unknown == [f"{UUID}1"]


def test_a_plan_disables_what_is_out_of_date_and_deletes_what_is_gone():
    clients = {
        f"{UUID}0": {"textdescription": mark(hash_key("old")), "roles": []},
        f"{UUID}1": {"textdescription": mark(hash_key("k")), "roles": []},
        f"{UUID}2": {"textdescription": mark(hash_key("k")), "disabled": True},
        f"{UUID}9": {},
        "person": {},
    }
    devices = [device(0), device(1, is_active=False), device(2)]
    made = plan(devices, PluginState(clients, {f"{UUID}9": {}}), {}, rules_of, ServerAccount("h"))
    found = [(c["command"], c.get("username") or c.get("rolename")) for c in made.commands]
    assert set(found) == {
        ("createRole", f"{UUID}0"),
        ("disableClient", f"{UUID}0"),
        ("disableClient", f"{UUID}1"),
        ("createRole", f"{UUID}2"),
        ("addClientRole", f"{UUID}2"),
        ("enableClient", f"{UUID}2"),
        ("deleteClient", f"{UUID}9"),
        ("deleteRole", f"{UUID}9"),
    }
    assert made.unknown == [f"{UUID}0"]


def test_the_plugins_file_holds_hashes_and_keeps_others():
    existing = {"groups": [{"groupname": "g"}], "clients": [{"username": "admin"}]}
    devices = [device(0, password=hash_password("k")), device(1), device(2, is_active=False)]
    document, unknown = plugin_file(existing, devices, rules_of, ServerAccount("h", "p"))
    assert document["groups"] == existing["groups"]
    assert [c["username"] for c in document["clients"]] == ["admin", "h", f"{UUID}0"]
    assert unknown == [f"{UUID}1"]
    assert plugin_file(document, devices, rules_of, ServerAccount("h", "p"))[0] == document
