"""What the command line calls by a name: devices, networks, rules and accounts."""

from collections.abc import Sequence

from heliograph.cli.database import collect
from heliograph.errors import StartError
from heliograph.model.account import Account
from heliograph.model.identifiers import is_uuid
from heliograph.model.sensor import Network, Sensor
from heliograph.nearest import did_you_mean
from heliograph.store import Store
from heliograph.store.rules import StoredRule

# Names that one which nobody knows is compared with.
COMPARED = 10_000


async def found_network(store: Store, name: str) -> Network:
    """Return the network of this name, or UUID.

    Raises:
        StartError: there is none.
    """
    found = await store.networks.called(name) if _is_storable(name) else None
    if found is None:
        networks, _ = await store.networks.list(networks=None, offset=0, limit=COMPARED)
        raise not_found("network", name, [network.name for network in networks])
    return found


async def all_networks(store: Store) -> list[Network]:
    """Return all networks, oldest first."""

    async def read(networks: list[Network], wanted: int) -> list[Network]:
        return (await store.networks.list(networks=None, offset=len(networks), limit=wanted))[0]

    return await collect(read)


async def network_identifier(store: Store, name: str | None) -> str | None:
    """Return the UUID of the network of this name; None where none is named.

    Raises:
        StartError: there is none of this name.
    """
    return None if name is None else (await found_network(store, name)).identifier


async def found_device(store: Store, name: str) -> Sensor:
    """Return the sensor of this device_id, or UUID, be it deleted.

    Raises:
        StartError: there is none.
    """
    found = await store.sensors.find(name)
    if found is None:
        raise await device_not_found(store, name)
    return found


async def device_not_found(store: Store, name: str) -> StartError:
    """Return what to say of a device that there is not, or not any more."""
    if is_uuid(name):
        return not_found("device", name, ())
    sensors, _ = await store.sensors.list(
        networks=None, offset=0, limit=COMPARED, only_devices=True
    )
    return not_found("device", name, [sensor.device_id or "" for sensor in sensors])


async def found_rule(store: Store, name: str, network: str | None) -> StoredRule:
    """Return the rule of this name, or UUID, in the network of this name if one is named.

    Raises:
        StartError: there is none, or there are several.
    """
    of_network = await network_identifier(store, network)
    found = await store.rules.find(name)
    if found is not None and of_network in (None, found.network_identifier):
        return found
    rules = await all_rules(store, of_network)
    named = [rule for rule in rules if rule.name == name]
    if len(named) > 1:
        raise StartError(f"{len(named)} networks have a rule {name!r}: say which by --network")
    if not named:
        raise not_found("rule", name, [rule.name for rule in rules])
    return named[0]


async def all_rules(store: Store, network: str | None) -> list[StoredRule]:
    """Return all rules of a network, or of all, oldest first."""
    networks = None if network is None else [network]

    async def read(rules: list[StoredRule], wanted: int) -> list[StoredRule]:
        return (await store.rules.page(networks=networks, offset=len(rules), limit=wanted))[0]

    return await collect(read)


async def found_account(store: Store, username: str) -> Account:
    """Return the account of this name.

    Raises:
        StartError: there is none.
    """
    found = await store.accounts.find_username(username) if _is_storable(username) else None
    if found is None:
        accounts = await store.accounts.list()
        raise not_found("user", username, [account.username for account in accounts])
    return found


def _is_storable(name: str) -> bool:
    # What is no UTF-8 on the command line has surrogates, of which databases know nothing.
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in name)


def not_found(what: str, name: str, names: Sequence[str]) -> StartError:
    """Return what to say of a name that nothing has, with the likely one of those there are."""
    return StartError(f"{what} {name!r} not found{did_you_mean(name, names)}")
