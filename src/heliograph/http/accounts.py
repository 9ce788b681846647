"""Accounts of users, and how they log in and out."""

import asyncio
import uuid
from types import NoneType
from typing import Annotated, Self

import structlog
from fastapi import Request
from pydantic import AfterValidator, Field, model_validator
from starlette.responses import Response

from heliograph.access.policy import Action, may
from heliograph.access.turns import Party
from heliograph.address import network_of
from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.access import (
    another_site,
    client_address,
    cookie_name,
    forbidden,
    is_encrypted,
    is_own_page,
    not_found,
)
from heliograph.http.errors import validation_error
from heliograph.http.members import Body
from heliograph.http.records import Representation
from heliograph.http.resources import (
    KnownCall,
    Refusals,
    Resource,
    TheCall,
    TheServices,
    answered,
    anybody,
    refusals,
)
from heliograph.http.schemas import Storable, Text
from heliograph.http.services import Services
from heliograph.model.account import LONGEST_USERNAME, USERNAME_RULE, Account, is_username
from heliograph.model.audit import Actor, ActorKind, actor_of
from heliograph.model.credentials import (
    LONGEST_PASSWORD,
    SHORTEST_PASSWORD,
    hash_key,
    looks_reserved,
    new_token,
    weakness,
)
from heliograph.model.time import DAY, SECOND, now, to_rfc3339
from heliograph.printable import printable
from heliograph.settings import Settings
from heliograph.store.accounts import SESSION, TICKET, NewSession

router = Resource("accounts")

TICKET_SECONDS = 60
LONGEST_USER_AGENT = 255
OTHER_NAMES = {"user_name": "username"}

_REFUSALS: Refusals = {
    "username": (ErrorCode.USERNAME_ALREADY_REGISTERED, "The username is already registered"),
    "administrator": (ErrorCode.ALREADY_SET_UP, "There is an administrator already"),
    "look": (ErrorCode.USERNAME_CONFUSABLE, "The username looks like one that is registered"),
}

log = structlog.get_logger()


def _plain_name(username: str) -> str:
    if not is_username(username):
        raise ValueError(f"must have {USERNAME_RULE}")
    return username


Username = Annotated[
    str, Field(min_length=1, max_length=LONGEST_USERNAME), Storable, AfterValidator(_plain_name)
]
NewPassword = Annotated[
    str, Field(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD), Storable
]
# Of a log-in no shortest length is judged: whatever was a password stays one.
Password = Annotated[str, Field(max_length=LONGEST_PASSWORD), Storable]


class LoggedIn(Representation):
    """A session's token, shown only here, and whose it is."""

    access_token: Annotated[str, "For `Authorization: Bearer …`, until the session ends"]
    user_identifier: Annotated[str, "The account's UUID"]


class UserRepresentation(Representation):
    """An account."""

    user_identifier: Annotated[str, "Its UUID"]
    username: Annotated[str, "The name to log in with"]
    is_admin: Annotated[bool, "Whether it may do everything"]
    created_at: Annotated[str, "When it was made (RFC 3339, UTC)"]


class SessionState(Representation):
    """Who is logged in, and what a log-in page has to know."""

    account: Annotated[UserRepresentation | None, "Whose session it is; null: nobody's"]
    has_administrator: Annotated[bool, "Whether there is one; otherwise `POST /setup` makes them"]
    signup_is_open: Annotated[bool, "Whether anybody may sign up"]


class SessionRepresentation(Representation):
    """A session that the account is logged in by."""

    id: Annotated[str, "What it is called; it opens nothing"]
    created_at: Annotated[str, "When it was opened (RFC 3339, UTC)"]
    expires_at: Annotated[str, "When it ends by itself (RFC 3339, UTC)"]
    last_used_at: Annotated[
        str | None,
        "When a request was last made with it, to some minutes (RFC 3339, UTC); null: none since"
        " that is noted",
    ]
    address: Annotated[str | None, "The address that it was opened from; null: it is not known"]
    user_agent: Annotated[
        str | None, "What the client that opened it called itself; null: it is not known"
    ]
    is_current: Annotated[bool, "Whether the request is made with it"]


class NewTicket(Representation):
    """What an EventSource or a WebSocket carries in its URL."""

    ticket: Annotated[str, "For `?ticket=…`, once"]
    expires_in: Annotated[int, "For how many seconds it can be used"]


class _WithCookie(Body):
    """What opens a session, for a page of ours as a cookie."""

    cookie: bool = Field(False, description="Set the session as a cookie, for a page of ours")


class NewUser(_WithCookie):
    """Who signs up; `user_name` is taken for `username`."""

    other_names = OTHER_NAMES

    username: Username = Field(description=f"A name of {USERNAME_RULE}")
    password: NewPassword = Field(
        description=f"A password of {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters"
    )


class FirstAdministrator(NewUser):
    """Who is to be the first administrator, and what shows that they may be."""

    code: Text = Field(description="The setup code that `serve` prints, or the admin key")


class LogIn(_WithCookie):
    """Who logs in; `user_name` is taken for `username`."""

    other_names = OTHER_NAMES

    username: Text = Field(description="The account's name")
    password: Password = Field(description="Its password")


class PasswordChange(Body):
    """The password so far, and the new one."""

    password: Password = Field(description="The password so far")
    new_password: NewPassword = Field(
        description=f"Another one, of {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters"
    )

    @model_validator(mode="after")
    def _another(self) -> Self:
        if self.password == self.new_password:
            raise ValueError("the new password is the old one")
        return self


@router.route("/session", "GET", dependencies=[anybody])
async def read_session(request: Request, services: TheServices) -> SessionState:
    """Read whose session the request is made with, if any: a page asks before it knows."""
    accounts = services.store.accounts
    try:
        caller = await services.access.caller(request.scope)
    except HeliographError as error:
        if error.code is ErrorCode.RATE_LIMITED:
            raise
        caller = None
    own = await accounts.find(caller.account) if caller and caller.account else None
    shown = None if own is None else _shown(own)
    has_administrator = await accounts.has_administrator()
    return SessionState(shown, has_administrator, services.settings.signup_is_open)


@router.route("/setup", "POST", faults=[409], dependencies=[anybody], shown=LoggedIn)
async def set_up(user: FirstAdministrator, request: Request, services: TheServices) -> Response:
    """Make the first administrator and log in. Once there is one it answers 409 for good."""
    _check_page(user, request)
    if await services.store.accounts.has_administrator():
        raise HeliographError(*_REFUSALS["administrator"])
    if not services.authenticator.may_set_up(user.code):
        wrong = HeliographError(ErrorCode.INVALID_CREDENTIALS, "Incorrect setup code or admin key")
        await services.access.refuse_key(user.code.encode(), request.scope, wrong)
    address = client_address(request.scope)
    actor = Actor(ActorKind.SYSTEM, "setup", address or None)
    await _check_password(user.password, user.username, "password", services.settings)
    return await _made(user, services, request, actor, is_administrator=True)


@router.route("/users", "POST", faults=[409], dependencies=[anybody], shown=LoggedIn)
async def sign_up(user: NewUser, request: Request, services: TheServices) -> Response:
    """Make an account and log in. While sign-up is closed, only administrators may."""
    _check_page(user, request)
    address = client_address(request.scope)
    actor = Actor(ActorKind.ANONYMOUS, "anonymous", address or None)
    if not services.settings.signup_is_open:
        try:
            caller = await services.access.caller(request.scope)
        except HeliographError as error:
            if error.code is ErrorCode.RATE_LIMITED:
                raise
            caller = None
        if caller is None or not may(caller, Action.ADMINISTER, None, services.registry.grants):
            raise HeliographError(ErrorCode.SIGNUP_CLOSED, "Sign-up is closed")
        actor = actor_of(caller, address or None)
    await services.access.limit_sign_ups(address)
    await asyncio.gather(
        _check_name(user.username, services.settings),
        _check_password(user.password, user.username, "password", services.settings),
    )
    return await _made(user, services, request, actor)


@router.route("/authentication", "POST", status=200, dependencies=[anybody], shown=LoggedIn)
async def log_in(user: LogIn, request: Request, services: TheServices) -> Response:
    """Log in with a name and a password.

    An unknown name and a wrong password are answered alike, in the same time.
    """
    _check_page(user, request)
    try:
        account = await services.authenticator.password(
            user.username, user.password, client_address(request.scope)
        )
    finally:
        await services.access.tell_log_ins(request.scope)
    if account is None:
        raise _incorrect()
    token = await _opened(services, account, request)
    return _logged_in(services, account, token, user, request, 200)


@router.route("/authentication", "DELETE", shown=NoneType)
async def log_out(call: TheCall) -> Response:
    """End the session that the request is made with."""
    if call.caller.account is None or call.caller.session is None:
        raise forbidden()
    await call.store.accounts.end_session(call.caller.session, actor=call.actor)
    await call.registry.changed()
    response = Response(status_code=204)
    if cookie_name(call.request.scope) in call.request.headers.get("cookie", ""):
        _set_cookie(response, call.request, "", 0)
    return response


@router.route("/users/me", "GET")
async def read_own_account(call: TheCall) -> UserRepresentation:
    """Read the account that the request is made with."""
    return _shown(await _own(call))


@router.route("/users/me/sessions", "GET")
async def list_own_sessions(call: TheCall) -> list[SessionRepresentation]:
    """List the sessions that one's own account is logged in by, the newest first: 100 at most."""
    own = await _own(call)
    used = call.registry.session_used
    return [
        SessionRepresentation(
            each.identifier,
            to_rfc3339(each.created_at),
            to_rfc3339(each.expires_at),
            to_rfc3339(at) if (at := max(each.used_at or 0, used(each.token_hash) or 0)) else None,
            each.address,
            each.user_agent,
            each.token_hash == call.caller.session,
        )
        for each in await call.store.accounts.sessions(own.identifier, now())
    ]


@router.route("/users/me/sessions/{session_id}", "DELETE", faults=[404])
async def end_own_session(session_id: str, call: TheCall) -> None:
    """End a session of one's own account, on whatever device it is."""
    own = await _own(call)
    for each in await call.store.accounts.sessions(own.identifier, now()):
        if each.identifier == session_id:
            await call.store.accounts.end_session(each.token_hash, actor=call.actor)
            await call.registry.changed()
            return
    raise not_found(ErrorCode.SESSION_NOT_FOUND)


@router.route("/users/me/password", "PUT")
async def change_own_password(change: PasswordChange, call: TheCall) -> None:
    """Change one's own password. All sessions but this one end."""
    account, services = await _own(call), call.services
    name, new = account.username, change.new_password
    await _check_password(new, name, "new_password", services.settings)
    renewed = await services.authenticator.replace_password(
        account, change.password, new, call.address, call.actor
    )
    if renewed is None:
        raise _incorrect()
    changed = await call.store.accounts.change_password(
        account.identifier,
        renewed,
        expected=account.password_hash,
        kept=call.caller.session or b"",
        actor=call.actor,
    )
    if not changed:
        raise _incorrect()  # it was changed meanwhile
    await call.registry.changed()


@router.route("/tickets", "POST")
async def make_ticket(call: TheCall) -> NewTicket:
    """Make a ticket: `?ticket=` opens one EventSource or WebSocket, within a minute."""
    account, session = await _own(call), call.caller.session
    # The hash of the session in the ticket is how a stream ends with the session.
    suffix = f".{session.hex()}" if session is not None else ""
    token = await _open(call.services, account, call.actor, TICKET, TICKET_SECONDS * SECOND, suffix)
    if token is None:
        raise HeliographError(ErrorCode.INVALID_TOKEN, "Invalid token")
    return NewTicket(token, TICKET_SECONDS)


def _check_page(user: _WithCookie, request: Request) -> None:
    if user.cookie and not is_own_page(request.scope):
        # Another site's page would have its visitor work in an account of the site's own.
        raise another_site()


async def _made(
    user: NewUser,
    services: Services,
    request: Request,
    actor: Actor,
    *,
    is_administrator: bool = False,
) -> Response:
    """Make the account and a session of it, and answer that."""
    # Whoever makes many accounts waits for them as one: the names are of their choosing.
    party = Party(network_of(client_address(request.scope)), "")
    password_hash = await services.passwords.hash(user.password, party)
    token, session = _new_session(SESSION, services.settings.session_days * DAY, request=request)
    with refusals(_REFUSALS):
        account = await services.store.accounts.create(
            identifier=str(uuid.uuid4()),
            username=user.username,
            password_hash=password_hash,
            created_at=session.created_at,
            is_admin=is_administrator,
            is_first=is_administrator,
            actor=actor,
            session=session,
        )
    return _logged_in(services, account, token, user, request, 201)


def _logged_in(
    services: Services,
    account: Account,
    token: str,
    user: _WithCookie,
    request: Request,
    status: int,
) -> Response:
    response = answered(LoggedIn(token, account.identifier), status)
    if user.cookie:
        _set_cookie(response, request, token, services.settings.session_days * 86_400)
    return response


async def _open(
    services: Services,
    account: Account,
    actor: Actor,
    purpose: str,
    length: int,
    suffix: str = "",
    request: Request | None = None,
) -> str | None:
    """Return a fresh token that stands for the account; only its hash is kept.

    None if the account's password is not any more what it was when the account was read.
    """
    token, session = _new_session(purpose, length, suffix, request)
    opened = await services.store.accounts.open_session(
        account=account, actor=actor, **session._asdict()
    )
    return token if opened else None


def _new_session(
    purpose: str, length: int, suffix: str = "", request: Request | None = None
) -> tuple[str, NewSession]:
    token, moment = new_token() + suffix, now()
    session = NewSession(hash_key(token), purpose, moment, moment + length)
    if request is not None:
        agent = printable(request.headers.get("user-agent", ""))[:LONGEST_USER_AGENT] or None
        address = client_address(request.scope) or None
        session = session._replace(address=address, user_agent=agent)
    return token, session


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


def _shown(account: Account) -> UserRepresentation:
    made = to_rfc3339(account.created_at)
    return UserRepresentation(account.identifier, account.username, account.is_admin, made)


async def _own(call: KnownCall) -> Account:
    account = call.caller.account
    own = None if account is None else await call.store.accounts.find(account)
    if own is None:
        raise forbidden()
    return own


async def _opened(services: Services, account: Account, request: Request) -> str:
    """Return the token of a session that the account's user opens.

    Raises:
        HeliographError: INVALID_CREDENTIALS, the password was changed meanwhile.
    """
    user = Actor(ActorKind.USER, account.username, client_address(request.scope) or None)
    length = services.settings.session_days * DAY
    token = await _open(services, account, user, SESSION, length, request=request)
    if token is None:
        raise _incorrect()
    return token


def _incorrect() -> HeliographError:
    return HeliographError(ErrorCode.INVALID_CREDENTIALS, "Incorrect username or password")


def _set_cookie(response: Response, request: Request, token: str, seconds: int) -> None:
    response.set_cookie(
        cookie_name(request.scope),
        token,
        max_age=seconds,
        path=request.scope.get("root_path") or "/",
        secure=is_encrypted(request.scope),
        httponly=True,
        samesite="lax",
    )
