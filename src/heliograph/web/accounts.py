"""Accounts of users, and how they log in and out."""

import asyncio
import uuid
from typing import Annotated, Self

import structlog
from fastapi import APIRouter, Request
from pydantic import AfterValidator, Field, model_validator
from starlette.responses import Response

from heliograph.access.policy import Action, may
from heliograph.address import network_of
from heliograph.errors import AlreadyExistsError, ErrorCode, HeliographError
from heliograph.model.account import LONGEST_USERNAME, USERNAME_RULE, Account, is_username
from heliograph.model.audit import Actor, ActorKind, actor_of
from heliograph.model.credentials import hash_key, new_token
from heliograph.model.principal import Principal
from heliograph.model.time import DAY, SECOND, now, to_rfc3339
from heliograph.passwords import LONGEST, SHORTEST
from heliograph.settings import Settings
from heliograph.store.accounts import SESSION, TICKET
from heliograph.turns import Party
from heliograph.weak_passwords import looks_reserved, weakness
from heliograph.web.access import (
    COOKIE,
    another_site,
    client_address,
    forbidden,
    is_own_page,
)
from heliograph.web.dependencies import Caller, TheAccess, TheActor, TheServices, anybody, no_body
from heliograph.web.errors import Answer, encode, validation_error
from heliograph.web.members import Body
from heliograph.web.paths import PREFIX
from heliograph.web.records import errors
from heliograph.web.schemas import LoggedIn, NewTicket, Storable, Text, UserRepresentation
from heliograph.web.services import Services
from heliograph.web.strict_route import StrictRoute

router = APIRouter(prefix=PREFIX, tags=["accounts"], route_class=StrictRoute)

TICKET_SECONDS = 60
OTHER_NAMES = {"user_name": "username"}

log = structlog.get_logger()


def _plain_name(username: str) -> str:
    if not is_username(username):
        raise ValueError(f"must have {USERNAME_RULE}")
    return username


Username = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_USERNAME),
    Storable,
    AfterValidator(_plain_name),
]
NewPassword = Annotated[str, Field(min_length=SHORTEST, max_length=LONGEST), Storable]
# Of a log-in no shortest length is judged: whatever was a password stays one.
Password = Annotated[str, Field(max_length=LONGEST), Storable]


class NewUser(Body):
    """Who signs up; `user_name` is taken for `username`."""

    other_names = OTHER_NAMES

    username: Username = Field(description=f"A name of {USERNAME_RULE}")
    password: NewPassword = Field(description=f"A password of {SHORTEST} to {LONGEST} characters")


class LogIn(Body):
    """Who logs in; `user_name` is taken for `username`."""

    other_names = OTHER_NAMES

    username: Text = Field(description="The account's name")
    password: Password = Field(description="Its password")
    cookie: bool = Field(False, description="Set the session as a cookie, for a page of ours")


class PasswordChange(Body):
    """The password so far, and the new one."""

    password: Password = Field(description="The password so far")
    new_password: NewPassword = Field(
        description=f"Another one, of {SHORTEST} to {LONGEST} characters"
    )

    @model_validator(mode="after")
    def _another(self) -> Self:
        if self.password == self.new_password:
            raise ValueError("the new password is the old one")
        return self


@router.post(
    "/users",
    status_code=201,
    response_model=LoggedIn,
    responses=errors(400, 401, 403, 409, 413, 415, 422),
    dependencies=[anybody],
)
async def sign_up(
    user: NewUser, request: Request, services: TheServices, access: TheAccess
) -> Response:
    """Make an account and log in. While sign-up is closed, only administrators may."""
    address = client_address(request.scope)
    actor = Actor(ActorKind.ANONYMOUS, "anonymous", address or None)
    if not services.settings.signup_is_open:
        try:
            caller = await access.caller(request.scope)
        except HeliographError as error:
            if error.code is ErrorCode.RATE_LIMITED:
                raise
            caller = None
        if caller is None or not may(caller, Action.ADMINISTER, None, services.registry.grants):
            raise HeliographError(ErrorCode.SIGNUP_CLOSED, "Sign-up is closed")
        actor = actor_of(caller, address or None)
    access.limit_sign_ups(address)
    await _check_name(user.username, services.settings)
    await _check_password(user.password, user.username, "password", services.settings)
    # Whoever makes many accounts waits for them as one: the names are of his choosing.
    party = Party(network_of(address), "")
    password_hash = await services.passwords.hash(user.password, party)
    try:
        account = await services.store.accounts.create(
            identifier=str(uuid.uuid4()),
            username=user.username,
            password_hash=password_hash,
            created_at=now(),
            actor=actor,
        )
    except AlreadyExistsError as error:
        if error.field == "look":
            raise HeliographError(
                ErrorCode.USERNAME_CONFUSABLE, "The username looks like one that is registered"
            ) from None
        raise HeliographError(
            ErrorCode.USERNAME_ALREADY_REGISTERED, "The username is already registered"
        ) from None
    token = await open_session(services, account, _himself(account, request))
    if token is None:
        raise _incorrect()
    return Answer(201, encode(_logged_in(account, token))).response()


@router.post(
    "/authentication",
    response_model=LoggedIn,
    responses=errors(400, 401, 403, 413, 415, 422),
    dependencies=[anybody],
)
async def log_in(user: LogIn, request: Request, services: TheServices) -> Response:
    """Log in with a name and a password.

    An unknown name and a wrong password are answered alike, in the same time.
    """
    if user.cookie and not is_own_page(request.scope):
        # Another site's page would have its visitor work in an account of the site's own.
        raise another_site()
    account = await services.authenticator.password(
        user.username, user.password, client_address(request.scope)
    )
    token = None
    if account is not None:
        token = await open_session(services, account, _himself(account, request))
    if account is None or token is None:
        raise _incorrect()
    response = Answer(200, encode(_logged_in(account, token))).response()
    if user.cookie:
        _set_cookie(response, request, token, services.settings.session_days * 86_400)
    return response


@router.delete(
    "/authentication",
    status_code=204,
    responses=errors(401, 403, 413, 415, 422),
    response_class=Response,
    dependencies=[no_body],
)
async def log_out(
    caller: Caller, actor: TheActor, request: Request, services: TheServices
) -> Response:
    """End the session that the request is made with."""
    if caller.account is None or caller.session is None:
        raise forbidden()
    await services.store.accounts.end_session(caller.session, actor=actor)
    await services.registry.changed()
    response = Response(status_code=204)
    if COOKIE in request.headers.get("cookie", ""):
        _set_cookie(response, request, "", 0)
    return response


@router.get("/users/me", response_model=UserRepresentation, responses=errors(401, 403))
async def read_own_account(caller: Caller, services: TheServices) -> Response:
    """Read the account that the request is made with."""
    account = await _own(caller, services)
    body = {
        "user_identifier": account.identifier,
        "username": account.username,
        "is_admin": account.is_admin,
        "created_at": to_rfc3339(account.created_at),
    }
    return Answer(200, encode(body)).response()


@router.put(
    "/users/me/password",
    status_code=204,
    responses=errors(400, 401, 403, 413, 415, 422),
    response_class=Response,
)
async def change_own_password(
    change: PasswordChange,
    caller: Caller,
    actor: TheActor,
    request: Request,
    services: TheServices,
) -> Response:
    """Change one's own password. All sessions but this one end."""
    account = await _own(caller, services)
    address = client_address(request.scope)
    name = account.username
    await _check_password(change.new_password, name, "new_password", services.settings)
    if not await services.authenticator.own_password(account, change.password, address, actor):
        raise _incorrect()
    changed = await services.store.accounts.change_password(
        account.identifier,
        await services.passwords.hash(
            change.new_password, Party(network_of(address), account.username)
        ),
        expected=account.password_hash,
        kept=caller.session or b"",
        actor=actor,
    )
    if not changed:
        raise _incorrect()  # it was changed meanwhile
    await services.registry.changed()
    return Response(status_code=204)


@router.post(
    "/tickets",
    status_code=201,
    response_model=NewTicket,
    responses=errors(401, 403, 413, 415, 422),
    dependencies=[no_body],
)
async def make_ticket(caller: Caller, actor: TheActor, services: TheServices) -> Response:
    """Make a ticket: `?ticket=` opens one EventSource or WebSocket, within a minute."""
    account = await _own(caller, services)
    # The hash of the session in the ticket is how a stream ends with the session.
    suffix = f".{caller.session.hex()}" if caller.session is not None else ""
    token = await open_session(
        services, account, actor, TICKET, TICKET_SECONDS * SECOND, suffix=suffix
    )
    if token is None:
        raise HeliographError(ErrorCode.INVALID_TOKEN, "Invalid token")
    return Answer(201, encode({"ticket": token, "expires_in": TICKET_SECONDS})).response()


async def open_session(
    services: Services,
    account: Account,
    actor: Actor,
    purpose: str = SESSION,
    length: int | None = None,
    suffix: str = "",
) -> str | None:
    """Return a fresh token that stands for the account; only its hash is kept.

    None if the account's password is not any more what it was when the account was read.
    """
    token, moment = new_token() + suffix, now()
    if length is None:
        length = services.settings.session_days * DAY
    opened = await services.store.accounts.open_session(
        hash_key(token),
        account,
        purpose=purpose,
        created_at=moment,
        expires_at=moment + length,
        actor=actor,
    )
    return token if opened else None


async def _check_name(username: str, settings: Settings) -> None:
    reserved = await asyncio.to_thread(looks_reserved, username)
    if not reserved:
        return
    if settings.app_env == "production":
        message = "is taken for an administrator's; an administrator's account is made otherwise"
        raise validation_error(("body", "username"), "value_error", message)
    log.warning(
        "account named like an administrator's", username=username, reason="refused in production"
    )


async def _check_password(password: str, username: str, member: str, settings: Settings) -> None:
    # In a thread: the first time a list is read.
    reason = await asyncio.to_thread(weakness, password, username)
    if reason is None:
        return
    if settings.app_env == "production":
        raise validation_error(("body", member), "value_error", f"the password {reason}")
    log.warning("easily guessed password", username=username, reason=reason)


async def _own(caller: Principal, services: Services) -> Account:
    found = None
    if caller.account is not None:
        found = await services.store.accounts.find(caller.account)
    if found is None:
        raise forbidden()
    return found


def _himself(account: Account, request: Request) -> Actor:
    return Actor(ActorKind.USER, account.username, client_address(request.scope) or None)


def _incorrect() -> HeliographError:
    return HeliographError(ErrorCode.INVALID_CREDENTIALS, "Incorrect username or password")


def _logged_in(account: Account, token: str) -> dict[str, str]:
    return {"access_token": token, "user_identifier": account.identifier}


def _set_cookie(response: Response, request: Request, token: str, seconds: int) -> None:
    response.set_cookie(
        COOKIE,
        token,
        max_age=seconds,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
