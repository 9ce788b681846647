import uuid

import pytest

from heliograph.access.authenticator import ADMIN, Authenticator
from heliograph.access.registry import KnownSensor
from heliograph.model.credentials import hash_key
from heliograph.model.principal import Role
from heliograph.model.sensor import Sensor

ADMIN_KEY = "the-admin-key"
SHARED_KEYS = ("a-shared-key", "another-shared-key")


class Sensors:
    """A registry of two devices: an active one and one that is not."""

    def __init__(self):
        self.known = [
            KnownSensor(
                Sensor(
                    number=number,
                    identifier=str(uuid.UUID(int=number)),
                    network_identifier="default",
                    device_id=device_id,
                    key_hash=hash_key(f"key-of-{device_id}") if key else None,
                    is_active=is_active,
                )
            )
            for number, device_id, is_active, key in (
                (1, "pump", True, True),
                (2, "off", False, True),
                (3, "keyless", True, False),
                (4, None, True, True),
            )
        ]

    async def find(self, identifier):
        return next((s for s in self.known if identifier.lower() in s.names), None)

    async def find_key(self, key_hash):
        return next((s for s in self.known if s.key_hash == key_hash), None)


def authenticator(anonymous_role=""):
    return Authenticator(
        Sensors(), admin_key=ADMIN_KEY, device_keys=SHARED_KEYS, anonymous_role=anonymous_role
    )


async def test_the_admin_key_is_the_administrators():
    assert await authenticator().key(ADMIN_KEY) == ADMIN
    assert ADMIN.is_admin


@pytest.mark.parametrize("key", SHARED_KEYS)
async def test_shared_keys_speak_for_no_device_in_particular(key):
    principal = await authenticator().key(key)
    assert (principal.kind, principal.sensor, principal.device) == ("shared", None, None)
    assert key not in principal.name


async def test_shared_keys_have_names_of_their_own():
    first, second = [await authenticator().key(key) for key in SHARED_KEYS]
    assert first.name != second.name


async def test_a_devices_key_is_the_devices():
    principal = await authenticator().key("key-of-pump")
    assert (principal.kind, principal.sensor, principal.name) == ("device", 1, "device:pump")
    assert not principal.is_admin
    nameless = await authenticator().key("key-of-None")
    assert nameless.name == f"device:{uuid.UUID(int=4)}"


@pytest.mark.parametrize("key", ["", "nobody", "key-of-off", "key-of-keyless", "\udc80", "é"])
async def test_other_keys_are_nobodys(key):
    assert await authenticator().key(key) is None


@pytest.mark.parametrize("name", ["", "admin", "pump", "whatever/+#", "\u0000"])
async def test_the_admin_key_logs_in_under_any_name(name):
    assert await authenticator().login(name, ADMIN_KEY.encode()) == ADMIN


@pytest.mark.parametrize("name", ["pump", str(uuid.UUID(int=1)), str(uuid.UUID(int=1)).upper()])
async def test_a_device_logs_in_by_either_name(name):
    principal = await authenticator().login(name, b"key-of-pump")
    assert (principal.kind, principal.sensor) == ("device", 1)


@pytest.mark.parametrize("key", SHARED_KEYS)
async def test_a_shared_key_logs_in_as_the_device_of_the_name(key):
    principal = await authenticator().login("pump", key.encode())
    assert (principal.kind, principal.device) == ("shared", "pump")
    unknown = await authenticator().login("not-there-yet", key.encode())
    assert unknown.device == "not-there-yet"
    assert await authenticator().login("no/device", key.encode()) is None
    assert await authenticator().login("", key.encode()) is None


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("pump", b"key-of-off"),
        ("off", b"key-of-off"),
        ("off", b"key-of-pump"),
        ("pump", b""),
        ("", b""),
        ("keyless", b""),
        ("keyless", b"key-of-keyless"),
        ("nobody", b"key-of-pump"),
        ("pump", b"\xff\x00"),
        ("admin", b"the-admin-key "),
    ],
)
async def test_other_logins_are_nobodys(name, password):
    assert await authenticator().login(name, password) is None


@pytest.mark.parametrize("role", ["viewer", "editor", "owner"])
def test_who_has_no_credential_has_the_role_of_the_settings(role):
    principal = authenticator(role).anonymous()
    assert (principal.kind, principal.role) == ("anonymous", Role[role.upper()])
    assert not principal.is_admin


def test_who_has_no_credential_is_nobody_by_default():
    assert authenticator().anonymous() is None
