"""Brokers that ask us who may do what: EMQX 5, and RabbitMQ's HTTP backend.

The answers are the listener's own. Where one can't be had, it is no: EMQX lets a client go on
where a question was not answered with 200 or 204, unless it is configured otherwise.
"""

import hmac
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

import structlog
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.brokers.clients import SERVER
from heliograph.errors import ErrorCode, HeliographError, StoreUnavailableError
from heliograph.http.access import Rights, client_address
from heliograph.http.parameters import OPEN_QUERY
from heliograph.http.paths import PREFIX
from heliograph.http.records import Representation, errors, ok, parameter
from heliograph.http.resources import TheServices, answered
from heliograph.http.services import Services
from heliograph.model.credentials import hash_key
from heliograph.model.principal import Principal

log = structlog.get_logger()

# RabbitMQ's exchange for MQTT, and the queues of a client's session and of its will.
EXCHANGE = "amq.topic"
QUEUES = ("mqtt-subscription-{}qos0", "mqtt-subscription-{}qos1", "mqtt-will-{}")
DEFAULT_VHOST = "/"
MOST_FIELDS = 100
# Between a topic of MQTT and the routing key that RabbitMQ makes of it.
_AS_TOPIC = str.maketrans("./*", "/.+")
_NO_ANSWER = (ErrorCode.RATE_LIMITED, ErrorCode.QUEUE_FULL)

Key = Annotated[
    str | None, Query(description="BROKER_AUTH_KEY, for a broker that can't send it as X-API-Key")
]


async def _is_broker(request: Request, services: TheServices, key: Key = None) -> None:
    """Let brokers ask, and the admin key.

    Raises:
        HeliographError: INVALID_API_KEY, INVALID_TOKEN, FORBIDDEN, RATE_LIMITED.
    """
    access, address = services.access, client_address(request.scope)
    headers = request.headers
    given = headers.get("x-api-key", key)
    if given is None and "authorization" not in headers and _is_near(services, address):
        access.limits.ingest.take(f"broker:{address}", request.scope)
        return
    if given is None or not _is_broker_key(services, given):
        if key is not None and given == key:
            await access.refuse_key(given.encode("utf-8", "surrogatepass"), request.scope)
        caller = await access.caller(request.scope)
        Rights(caller, access.registry).require(Action.ADMINISTER)
    access.limits.ingest.take(f"broker:{address}", request.scope)


def _is_broker_key(services: Services, given: str) -> bool:
    known = services.settings.broker_auth_key
    return known is not None and hmac.compare_digest(
        hash_key(given), hash_key(known.get_secret_value())
    )


def _is_near(services: Services, address: str) -> bool:
    """Return whether BROKER_AUTH_NETWORKS has the address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in services.settings.broker_auth_networks)


router = APIRouter(prefix=f"{PREFIX}/broker", tags=["brokers"], dependencies=[Depends(_is_broker)])

_USER = "The MQTT user name: of a device its `device_id` or UUID"
_PASSWORD = "The MQTT password: of a device its key"  # noqa: S105 - what one is
_CLIENT = "The MQTT client id"
_ADDRESS = "The IP address that it connects from"


def _text(description: str) -> Any:
    return Field(None, max_length=65_535, description=description)


class EmqxLogin(BaseModel):
    """What EMQX sends of a client that connects: its defaults, and `peerhost` where configured.

    Whoever runs EMQX chooses what it sends: refused, none of its clients would get in.
    """

    model_config = ConfigDict(extra="allow")

    username: str | None = _text(_USER)
    password: str | None = _text(_PASSWORD)
    clientid: str | None = _text(_CLIENT)
    peerhost: str | None = _text(_ADDRESS)


class EmqxAction(BaseModel):
    """What EMQX sends of a client that publishes, or subscribes; more is allowed as above."""

    model_config = ConfigDict(extra="allow")

    username: str | None = _text(_USER)
    topic: str = Field(max_length=65_535, description="The topic, or the filter of a subscription")
    action: Literal["publish", "subscribe"] = Field(description="What it is about to do")
    clientid: str | None = _text(_CLIENT)


class EmqxActionAnswer(Representation):
    """Whether a client may do what it is about to do."""

    result: Annotated[Literal["allow", "deny"], "`allow` or `deny`"]


class EmqxLoginAnswer(EmqxActionAnswer):
    """Whether a client may connect."""

    is_superuser: Annotated[bool, "Whether nothing more is asked of it"]


@router.post("/emqx/authentication", responses=ok(EmqxLoginAnswer))
async def emqx_authentication(
    client: EmqxLogin, request: Request, services: TheServices
) -> Response:
    """Answer EMQX whether a client may connect."""
    found = None
    address = client.peerhost or client_address(request.scope)
    with _no_answer_is_no(HeliographError, StoreUnavailableError):
        found = await _login(services, client.username, client.password, address, client.clientid)
    return answered(EmqxLoginAnswer("deny" if found is None else "allow", found is SERVER))


@router.post("/emqx/authorization", responses=ok(EmqxActionAnswer))
async def emqx_authorization(action: EmqxAction, services: TheServices) -> Response:
    """Answer EMQX whether a client may publish or subscribe."""
    allowed = False
    clients = services.broker_clients
    decide = clients.may_publish if action.action == "publish" else clients.may_subscribe
    with _no_answer_is_no(HeliographError, StoreUnavailableError):
        if action.username:
            allowed = await decide(action.username, action.topic)
    return answered(EmqxActionAnswer("allow" if allowed else "deny"))


async def _login(
    services: Services,
    username: str | None,
    password: str | None,
    address: str,
    client_id: str | None,
) -> Principal | None:
    if not username or password is None:
        return None
    return await services.broker_clients.login(username, password, address, client_id)


@contextmanager
def _no_answer_is_no(*failures: type[Exception]) -> Iterator[None]:
    """Leave the answer at no where it can't be had, and log why."""
    try:
        yield
    except failures as error:
        code = error.code if isinstance(error, HeliographError) else ErrorCode.QUEUE_FULL
        if code not in _NO_ANSWER:
            raise
        # Whoever guesses would fill the log with it.
        if code is not ErrorCode.RATE_LIMITED:
            log.warning("broker question unanswered", answer="no", reason=str(error))


# RabbitMQ


_FIELDS = {
    "username": _USER,
    "password": _PASSWORD,
    "client_id": _CLIENT,
    "vhost": f"The virtual host: `{DEFAULT_VHOST}`",
    "ip": _ADDRESS,
    "resource": "What is used: `exchange`, `queue` or `topic`",
    "name": f"The name of the exchange or the queue: `{EXCHANGE}`, say",
    "permission": "What for: `configure`, `write` or `read`",
    "routing_key": "The topic, with dots for slashes",
}


_ALLOW_OR_DENY: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"enum": ["allow", "deny"]}}}},
    **errors(400),
}


async def _fields(request: Request) -> dict[str, str]:
    """Return the members of a question, from the query (GET) or from a form (POST).

    Raises:
        HeliographError: MALFORMED_JSON, it is no form; VALIDATION_FAILED.
    """
    raw = request.scope["query_string"] if request.method == "GET" else await request.body()
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise HeliographError(ErrorCode.MALFORMED_JSON, "The body is not a form") from None
    members = dict(pairs)
    if len(members) != len(pairs):
        raise HeliographError(ErrorCode.VALIDATION_FAILED, "A member is given twice")
    return members


Fields = Annotated[dict[str, str], Depends(_fields)]


def _answer(allowed: bool) -> Response:
    return Response("allow" if allowed else "deny", media_type="text/plain")


async def rabbitmq_user(fields: Fields, request: Request, services: TheServices) -> Response:
    """Answer RabbitMQ whether a client may connect."""
    username, password, client_id = map(fields.get, ("username", "password", "client_id"))
    found, address = None, client_address(request.scope)
    with _no_answer_is_no(HeliographError):
        found = await _login(services, username, password, address, client_id)
    return _answer(found is not None)


async def rabbitmq_vhost(fields: Fields, services: TheServices) -> Response:
    """Answer RabbitMQ whether a client may use a virtual host: the one that MQTT is in."""
    client = await services.broker_clients.client(fields.get("username", ""))
    in_default = fields.get("vhost") == DEFAULT_VHOST
    return _answer(client is SERVER or (client is not None and in_default))


async def rabbitmq_resource(fields: Fields, services: TheServices) -> Response:
    """Answer RabbitMQ whether a client may use an exchange or queue: those of its MQTT session."""
    username, name = fields.get("username", ""), fields.get("name", "")
    client = await services.broker_clients.client(username)
    if client is None or client is SERVER:
        return _answer(client is SERVER)
    match fields.get("resource"), fields.get("permission"):
        case "exchange", "read" | "write":
            return _answer(name == EXCHANGE)
        case "queue", "configure" | "read" | "write":
            own = services.broker_clients.names(client, username)
            return _answer(name in {queue.format(x) for queue in QUEUES for x in own})
    return _answer(False)


async def rabbitmq_topic(fields: Fields, services: TheServices) -> Response:
    """Answer RabbitMQ whether a client may publish (write) or subscribe (read)."""
    username, topic = fields.get("username", ""), fields.get("routing_key", "")
    clients = services.broker_clients
    if fields.get("name") != EXCHANGE and await clients.client(username) is not SERVER:
        return _answer(False)
    topic = topic.translate(_AS_TOPIC)
    match fields.get("permission"):
        case "write":
            return _answer(await clients.may_publish(username, topic))
        case "read":
            return _answer(await clients.may_subscribe(username, topic))
    return _answer(False)


for _name, _route, _asked in (
    ("user", rabbitmq_user, ("username", "password", "client_id", "vhost")),
    ("vhost", rabbitmq_vhost, ("username", "vhost", "ip")),
    ("resource", rabbitmq_resource, ("username", "vhost", "resource", "name", "permission")),
    (
        "topic",
        rabbitmq_topic,
        ("username", "vhost", "resource", "name", "permission", "routing_key"),
    ),
):
    _members = {name: {"type": "string", "description": _FIELDS[name]} for name in _asked}
    _form = {"type": "object", "properties": _members, "additionalProperties": True}
    _in_body = {"content": {"application/x-www-form-urlencoded": {"schema": _form}}}
    # Newer versions of RabbitMQ send more; refused, none of its clients would get in.
    _in_query = [parameter("query", name, {"type": "string"}, _FIELDS[name]) for name in _asked]
    for _method, _extra in (
        ("POST", {"requestBody": {"required": False, **_in_body}}),
        ("GET", {**OPEN_QUERY, "parameters": _in_query}),
    ):
        router.add_api_route(
            f"/rabbitmq/{_name}",
            _route,
            methods=[_method],
            operation_id=f"rabbitmq_{_name}_{_method.lower()}",
            response_class=Response,
            responses=_ALLOW_OR_DENY,
            openapi_extra=_extra,
        )
