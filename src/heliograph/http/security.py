"""Which credentials OpenAPI says that each operation takes."""

from typing import Any

from heliograph.http.access import COOKIE
from heliograph.http.paths import PREFIX

SCHEMES: dict[str, dict[str, Any]] = {
    "ApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The admin key, a device's own key, or one of DEVICE_API_KEYS",
    },
    "Session": {
        "type": "http",
        "scheme": "bearer",
        "description": "The `access_token` of a log-in",
    },
    "Cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": (
            "The same, as a log-in with `cookie` sets it, over TLS as `__Host-heliograph_session`."
            " What changes something takes it only from pages of this server, by"
            " `Sec-Fetch-Site` or `Origin`"
        ),
    },
    "MetricsToken": {"type": "http", "scheme": "bearer", "description": "METRICS_TOKEN"},
    "BrokerKey": {
        "type": "apiKey",
        "in": "query",
        "name": "key",
        "description": "BROKER_AUTH_KEY, for a broker that can't send it as X-API-Key",
    },
    "Ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "From `POST /tickets`, for a browser's EventSource or WebSocket",
    },
}

# What the name of a scheme means that is sent in the query.
_IN_QUERY = {name: one["name"] for name, one in SCHEMES.items() if one.get("in") == "query"}
_ANY = ("ApiKey", "Session", "Cookie")
_ACCOUNT = ("Session", "Cookie")
_OTHERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("post", "/authentication"): (),
    ("get", "/health"): (),
    ("get", "/packets/schema"): (),
    ("get", "/ping"): (),
    ("get", "/readyz"): (),
    ("post", "/setup"): (),
    ("get", "/status"): (),
    ("delete", "/authentication"): _ACCOUNT,
    ("get", "/users/me"): _ACCOUNT,
    ("get", "/users/me/sessions"): _ACCOUNT,
    ("delete", "/users/me/sessions/{session_id}"): _ACCOUNT,
    ("put", "/users/me/password"): _ACCOUNT,
    ("post", "/tickets"): _ACCOUNT,
    ("get", "/events"): (*_ANY, "Ticket"),
    ("get", "/streams/{network_identifier}"): (*_ANY, "Ticket"),
    ("get", "/metrics"): (*_ANY, "MetricsToken"),
    ("post", "/broker/emqx/authentication"): (*_ANY, "BrokerKey"),
    ("post", "/broker/emqx/authorization"): (*_ANY, "BrokerKey"),
    **{
        (method, f"/broker/rabbitmq/{asked}"): (*_ANY, "BrokerKey")
        for method in ("get", "post")
        for asked in ("user", "vhost", "resource", "topic")
    },
}
# Open to everybody; sign-up while it is closed to administrators.
_OPTIONAL = frozenset({("post", "/users"), ("get", "/session")})


def schemes_of(method: str, path: str) -> tuple[str, ...]:
    """Return the schemes that an operation takes, any one of them."""
    return _OTHERS.get((method, path.removeprefix(PREFIX)), _ANY)


def in_query(method: str, path: str) -> frozenset[str]:
    """Return the parameters that may carry an operation's credential."""
    schemes = schemes_of(method, path)
    return frozenset(_IN_QUERY[name] for name in schemes if name in _IN_QUERY)


def required(method: str, path: str) -> list[dict[str, list[str]]]:
    """Return what OpenAPI says that an operation takes: any one of the schemes."""
    schemes: list[dict[str, list[str]]] = [{name: []} for name in schemes_of(method, path)]
    is_optional = (method, path.removeprefix(PREFIX)) in _OPTIONAL
    return [{}, *schemes] if is_optional else schemes
