"""Clients of a broker that asks us: who may log in there, and what each may do.

A broker names a client by its user name alone once it has logged in. So a name has to mean the
same one always, and who logs in has to be the one whom that name means: the server's own account,
else a sensor, else a user.
"""

import hmac

from heliograph.access.authenticator import ADMIN, Authenticator
from heliograph.access.policy import Action, may
from heliograph.access.registry import Registry
from heliograph.ingest.mqtt_ingest import MqttIngest
from heliograph.model.credentials import hash_key
from heliograph.model.principal import Principal
from heliograph.mqtt.codec.topics import shared, valid_filter, valid_topic
from heliograph.mqtt.topics import parse_device_topic

# The server itself, whose messages are not judged again where it reads them.
SERVER = Principal("broker", "broker")


class BrokerClients:
    """Decides for a broker by the rules of the listener."""

    def __init__(
        self,
        registry: Registry,
        authenticator: Authenticator,
        mqtt_ingest: MqttIngest,
        *,
        server_name: str,
        server_password: str | None,
    ) -> None:
        self._registry = registry
        self._authenticator = authenticator
        self._mqtt_ingest = mqtt_ingest
        self._server_name = server_name
        self._server = None if server_password is None else hash_key(server_password)

    async def login(
        self, username: str, password: str, address: str, client_id: str | None = None
    ) -> Principal | None:
        """Return who logs in at the broker; None: they may not.

        The client id, where it is told, has to be a name of theirs: under another's they would be
        given that one's session, with what waits in it.

        Neither the admin key nor a session's token is a password here, since both go with any
        name; a shared device key is one for a device that is registered, in a network
        that takes them.

        Raises:
            HeliographError: as `Authenticator.login`.
            StoreUnavailableError: it can't be determined now.
        """
        secret = password.encode("utf-8", "surrogatepass")
        if username == self._server_name:
            known = self._server
            right = known is not None and hmac.compare_digest(hash_key(secret), known)
            return SERVER if right else None
        meant = await self.client(username)
        # For a name that means nobody too: it takes as long, and counts like any wrong password.
        found = await self._authenticator.login(username, secret, address)
        if meant is None or found is None or found is ADMIN or found.session is not None:
            return None
        if client_id is not None and client_id not in self.names(meant, username):
            return None
        if found.kind == "shared":
            sensor = None if meant.sensor is None else self._registry.number(meant.sensor)
            taken = sensor and may(found, Action.ACT_AS, sensor, self._registry.grants)
            return meant if taken else None
        is_meant = (found.sensor, found.account) == (meant.sensor, meant.account)
        return meant if is_meant else None

    def names(self, client: Principal, username: str) -> set[str]:
        """Return the names of a client: its user name, and those of the sensor that it is."""
        sensor = None if client.sensor is None else self._registry.number(client.sensor)
        return {username, *(sensor.names if sensor is not None else ())}

    async def client(self, username: str) -> Principal | None:
        """Return the principal that a client's name stands for; None if it may do nothing.

        Raises:
            StoreUnavailableError: it can't be determined now.
        """
        if username == self._server_name:
            return SERVER if self._server is not None else None
        sensor = await self._registry.find(username)
        if sensor is not None:
            return self._authenticator.device(sensor)
        return await self._authenticator.user(username)

    async def may_publish(self, username: str, topic: str) -> bool:
        """Return whether the client of this name may publish on a topic.

        Raises:
            StoreUnavailableError: it can't be determined now.
        """
        client = await self.client(username)
        if client is None or not valid_topic(topic):
            return False
        if client is SERVER:
            return True
        return self._mqtt_ingest.accepts(await self._mqtt_ingest.route(client, topic))

    async def may_subscribe(self, username: str, topic_filter: str) -> bool:
        """Return whether the client of this name may subscribe to a filter.

        The listener lets users subscribe with wildcards and hands over what each may see. A
        broker hands over all that matches: there wildcards are for administrators.

        Raises:
            StoreUnavailableError: it can't be determined now.
        """
        client = await self.client(username)
        if client is None or not valid_filter(topic_filter):
            return False
        group = shared(topic_filter)
        wanted = topic_filter if group is None else group[1]
        if may(client, Action.RECEIVE_ALL, None, self._registry.grants):
            return True
        if client.account is None and await self._mqtt_ingest.is_own_topic(client, wanted):
            return True
        parsed = parse_device_topic(wanted)
        sensor = await self._registry.find(parsed[1]) if parsed is not None else None
        return sensor is not None and self._mqtt_ingest.may_see(
            client, sensor.number, sensor.network_identifier
        )
