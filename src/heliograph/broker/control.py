"""The control topic of Mosquitto's dynamic-security plugin.

paho-mqtt waits for its sockets in a thread of its own; `call` waits for the answers.
"""

import json
import queue
import secrets
import ssl
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from heliograph.broker.dynamic_security import Command, PluginState
from heliograph.broker_url import BrokerUrl

TOPIC = "$CONTROL/dynamic-security/v1"
ANSWERS = f"{TOPIC}/response"
CONNECT_SECONDS = 10.0
# For a message of commands: each of them has the plugin write its whole file.
ANSWER_SECONDS = 60.0
COMMANDS_AT_ONCE = 50
PAGE = 500
_DOUBT = "is the plugin there, and this its administrator?"


class ControlError(Exception):
    """The plugin can't be asked, or refuses; one line says why and holds no secret."""


class ControlTopic:
    """A connection to the plugin, as a context manager; all of it blocks."""

    def __init__(
        self, broker: BrokerUrl, username: str, password: str, tls: ssl.SSLContext | None = None
    ) -> None:
        self._broker = broker
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue(maxsize=1_000)
        self._ready = threading.Event()
        self._problem: str | None = None
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5
        )
        client.username_pw_set(username, password)
        if tls is not None:
            client.tls_set_context(tls)
        client.connect_timeout = CONNECT_SECONDS
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_message = self._answered
        client.on_disconnect = self._lost

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            ControlError: there is no connection, or none of an administrator of the plugin.
        """
        try:
            self._client.connect(self._broker.host, self._broker.port)
        except (OSError, ValueError) as error:
            raise ControlError(f"{self._broker}: {error}") from None
        self._client.loop_start()
        if not self._ready.wait(CONNECT_SECONDS) or self._problem is not None:
            self._client.loop_stop()
            raise ControlError(f"{self._broker}: {self._problem or 'does not answer'}")
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def state(self) -> PluginState:
        """Return what the plugin has.

        Raises:
            ControlError: it does not say.
        """
        clients = {c["username"]: c for c in self._list("listClients", "clients")}
        return PluginState(clients, {r["rolename"]: r for r in self._list("listRoles", "roles")})

    def _list(self, command: str, member: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            asked = {"command": command, "verbose": True, "count": PAGE, "offset": offset}
            (answer,) = self.call([asked])
            page = answer.get("data", {}).get(member, [])
            yield from page
            offset += len(page)
            if not page or offset >= answer["data"].get("totalCount", 0):
                return

    def call(self, commands: Sequence[Command]) -> list[dict[str, Any]]:
        """Have the plugin do this, in pieces, and return an answer for each command.

        Raises:
            ControlError: it refuses one of them, or does not answer; those before are done.
        """
        answers: list[dict[str, Any]] = []
        for at in range(0, len(commands), COMMANDS_AT_ONCE):
            answers += self._call(commands[at : at + COMMANDS_AT_ONCE])
        return answers

    def _call(self, commands: Sequence[Command]) -> list[dict[str, Any]]:
        # Others' answers come under the same topic.
        sign = secrets.token_hex(8)
        marked = [{**c, "correlationData": f"{sign} {n}"} for n, c in enumerate(commands)]
        sent = self._client.publish(TOPIC, json.dumps({"commands": marked}), qos=1)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ControlError(f"{self._broker}: the connection was lost")
        found: list[dict[str, Any]] = []
        while len(found) < len(commands):
            try:
                answer = self._answers.get(timeout=ANSWER_SECONDS)
            except queue.Empty:
                raise ControlError(f"{self._broker}: {TOPIC} does not answer; {_DOUBT}") from None
            found += [
                response
                for response in answer.get("responses", [])
                if str(response.get("correlationData", "")).startswith(sign)
            ]
            if "lost" in answer:
                raise ControlError(f"{self._broker}: the connection was lost")
        for response in found:
            if error := response.get("error"):
                raise ControlError(f"{response.get('command')}: {error}")
        return found

    # paho's thread

    def _connected(self, client: Any, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        if reason.is_failure:
            self._problem = f"refused: {reason}".lower()
            self._ready.set()
        else:
            client.subscribe(ANSWERS, qos=1)

    def _subscribed(self, _client: Any, _data: Any, _mid: int, reasons: Any, _more: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._problem = (
                f"{ANSWERS}: not allowed; is the plugin there, and this its administrator?"
            )
        self._ready.set()

    def _answered(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            answer = json.loads(message.payload)
        except ValueError:
            return
        if isinstance(answer, dict):
            self._keep(answer)

    def _lost(self, _client: Any, _data: Any, _flags: Any, _reason: Any, _more: Any) -> None:
        self._keep({"lost": True})

    def _keep(self, answer: dict[str, Any]) -> None:
        try:
            self._answers.put_nowait(answer)
        except queue.Full:
            # Nobody waits: others are talking to the plugin.
            self._answers.get_nowait()
            self._answers.put_nowait(answer)
