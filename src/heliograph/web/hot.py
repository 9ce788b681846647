"""What the hot routes have in common: the least that a request from a device can cost.

They are ASGI applications of their own, without a request or response object.
"""

import abc
from typing import NamedTuple

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from heliograph.access.registry import KnownSensor
from heliograph.address import network_of
from heliograph.errors import (
    ErrorCode,
    HeliographError,
    RejectionReason,
)
from heliograph.hourly import Hourly
from heliograph.ingest.outcome import Fault, Outcome
from heliograph.ingest.posts import Posts
from heliograph.model.principal import Principal
from heliograph.model.time import now
from heliograph.web.access import Access, client_address
from heliograph.web.bodies import (
    BodyTooLargeError,
    ClientGoneError,
    Held,
    Receiving,
    decompress,
    is_json,
    read_body,
    unsupported_media_type,
)
from heliograph.web.errors import Answer, answer, answer_of, encode, rejection
from heliograph.web.limits import Limits
from heliograph.web.traffic import Traffic

log = structlog.get_logger()

LONGEST_IDEMPOTENCY_KEY = 255
# Statuses of what is refused before it is read: no credential, no right, too slow, of another
# type, too often.
UNREAD = frozenset((401, 403, 408, 415, 429))
# How much of a path that names no sensor is kept with a rejected message.
LONGEST_SHOWN = 64


class Call(NamedTuple):
    """A request that brings data: who sends it, and all there is to know of it."""

    principal: Principal
    payload: bytes
    idempotency_key: str | None
    source: str
    identifier: str


class Refusals:
    """Warns of requests that bring data and are refused unread, once an hour of each client.

    What was read and rejected is told as such.
    """

    def __init__(self) -> None:
        self._hourly = Hourly()

    def tell(self, refused: Answer, address: str, template: str) -> None:
        """Take note of an answer that is none of success."""
        if refused.status not in UNREAD or not isinstance(refused.body, bytes):
            return
        told = msgspec.json.decode(refused.body)
        if told["code"] == ErrorCode.DEVICE_INACTIVE:
            return
        network = network_of(address)
        untold = self._hourly.due((network, told["code"]), network, now())
        if untold is not None:
            more = {"not_told_before": untold} if untold else {}
            log.warning(
                "request with data refused",
                address=address,
                route=template,
                reason=told["code"],
                detail=told["detail"],
                **more,
            )
        if self._hourly.has_left_out():
            log.warning("more clients' data is refused: they are not named within this hour")


class HotRoute(abc.ABC):
    """A route that takes data: authenticates, counts, reads the body, has it committed."""

    template: str
    limit: int

    def __init__(self, access: Access, limits: Limits, posts: Posts, traffic: Traffic) -> None:
        self.access = access
        self.posts = posts
        self.receiving = Receiving()
        self.refusals = Refusals()
        self._limits = limits
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, after the commit."""
        held = Held(self.receiving)
        try:
            await self._respond(scope, receive, send, held)
        finally:
            held.release()

    async def _respond(self, scope: Scope, receive: Receive, send: Send, held: Held) -> None:
        try:
            answered = await answer_of(self._answer(scope, receive, held))
        except ClientGoneError:
            return
        self._traffic.count(self.template, answered.status)
        if answered.status > 400:
            self.refusals.tell(answered, client_address(scope), self.template)
        await answered.send_to(scope, send)

    @abc.abstractmethod
    async def take(self, call: Call) -> Answer:
        """Have the payload stored and return the answer."""

    def source(self, _identifier: str) -> str:
        """Return how rejected messages name this route."""
        return f"POST {self.template}"

    async def _answer(self, scope: Scope, receive: Receive, held: Held) -> Answer:
        headers = dict(scope["headers"])
        key = headers.get(b"x-api-key")
        generation = self.access.generation
        principal = self.access.remembered(key) if key is not None else None
        address = client_address(scope)
        if principal is None:
            principal = await self.access.caller(scope)
        self.access.require_sending(principal)
        self._limits.ingest(principal, address)
        if not is_json(headers.get(b"content-type")):
            raise unsupported_media_type()
        parameters = scope.get("path_params")
        identifier = parameters.get("identifier", "") if parameters else ""
        source = self.source(identifier[:LONGEST_SHOWN])
        try:
            payload = await read_body(receive, self.limit, headers.get(b"content-length"), held)
            if encoding := headers.get(b"content-encoding"):
                payload = await decompress(payload, encoding, self.limit, held)
        except BodyTooLargeError as error:
            fault = Fault(None, RejectionReason.TOO_LARGE, error.detail)
            await self.posts.reject(error.beginning, fault, principal, source)
            raise
        if self.access.may_have_ended(principal, generation):
            # The body may have taken a minute to come.
            principal = await self.access.caller(scope)
            self.access.require_sending(principal)
        idempotency_key = headers.get(b"idempotency-key")
        return await self.take(
            Call(
                principal,
                payload,
                _idempotency_key(idempotency_key) if idempotency_key else None,
                source,
                identifier,
            )
        )

    async def refuse(
        self,
        call: Call,
        fault: Fault,
        error: HeliographError | None = None,
        sensor: KnownSensor | None = None,
    ) -> Answer:
        """Keep the message as rejected and return the answer that says so."""
        await self.posts.reject(call.payload, fault, call.principal, call.source, sensor)
        return answer(error) if error else rejection(fault)


def _idempotency_key(value: bytes) -> str:
    if len(value) > LONGEST_IDEMPOTENCY_KEY:
        raise HeliographError(
            ErrorCode.VALIDATION_FAILED,
            f"Idempotency-Key may have {LONGEST_IDEMPOTENCY_KEY} bytes at most",
        )
    return value.decode("latin-1")


def outcome_answer(outcome: Outcome) -> Answer:
    """Return how many elements of a batch were stored, repeated and rejected."""
    whole = next((fault for fault in outcome.faults if fault.index is None), None)
    if whole is not None and not outcome.accepted:
        return rejection(whole)
    duplicates = sum(accepted.duplicate for accepted in outcome.accepted)
    body = {
        "accepted": len(outcome.accepted) - duplicates,
        "duplicates": duplicates,
        "retimed": len(outcome.retimed),
        "rejected": [
            {"index": fault.index, "code": fault.reason.value, "detail": fault.detail}
            for fault in outcome.faults
        ],
    }
    return Answer(201, encode(body))
