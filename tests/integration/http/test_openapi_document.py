"""The interface's own documentation: complete, in words, and with examples that work."""

import re
import sqlite3

import httpx
import pytest

from server import ADMIN_KEY, ServerThread

ADMIN = {"x-api-key": ADMIN_KEY}
METHODS = ("get", "post", "put", "patch", "delete")
# What a number counts, or is measured in.
UNIT = re.compile(
    r"seconds|minutes|hours|\bdays\b|bytes|number of|how many|\brevision\b|its number\b|\bindex\b"
    r"|TCP port|own unit|percent|degrees",
    re.IGNORECASE,
)
TIME = re.compile(r"epoch seconds|RFC 3339")
NAME_OF_A_TIME = re.compile(r"(^|_)(at|timestamp|start|end|moment|clock)$")
# What the examples take for granted, if they are not what makes it.
USER = {"username": "ada", "password": "Seven-lanterns-at-dusk"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerThread(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def document(server):
    return server.http.get("/openapi.json").json()


def operations(document):
    return [
        (method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in METHODS
    ]


def resolved(document, schema):
    while "$ref" in schema:
        found = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def properties(document, schema, where, seen, told=frozenset()):
    """Yield all properties within a schema, with where they are.

    `told` are those that it narrows down: they are described where they are told of.
    """
    schema = resolved(document, schema)
    if id(schema) in seen:
        return
    seen.add(id(schema))
    own = schema.get("properties", {})
    for name, inner in own.items():
        if name not in told:
            yield f"{where}.{name}", name, inner
        yield from properties(document, inner, f"{where}.{name}", seen)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from properties(document, schema[name], f"{where}[]", seen)
    for name in ("anyOf", "oneOf", "allOf"):
        for inner in schema.get(name, ()):
            yield from properties(document, inner, where, seen, frozenset(own))


def schemas(document):
    """Yield what all operations take and give, with where it stands."""
    for method, path, operation in operations(document):
        for name, part in (("body", operation.get("requestBody", {})), *_answers(operation)):
            for media in part.get("content", {}).values():
                yield f"{method} {path} {name}", media["schema"]


def _answers(operation):
    return [(status, answer) for status, answer in operation["responses"].items()]


def types(document, schema):
    schema = resolved(document, schema)
    found = schema.get("type", ())
    found = {found} if isinstance(found, str) else set(found)
    return found.union(*(types(document, inner) for inner in schema.get("anyOf", ())))


def flaw(document, name, schema, description):
    """Return what a description lacks; None: nothing."""
    if not description:
        return "no description"
    numeric = types(document, schema) & {"number", "integer"}
    if TIME.search(description):
        return None
    if NAME_OF_A_TIME.search(name):
        return "a time without a form"
    return "a number without a unit" if numeric and not UNIT.search(description) else None


def test_every_parameter_has_a_description_with_its_unit(document):
    flaws, count = [], 0
    for method, path, operation in operations(document):
        named = re.findall(r"\{(\w+)\}", path)
        parameters = operation.get("parameters", [])
        assert {each["name"] for each in parameters if each["in"] == "path"} == set(named)
        for each in parameters:
            count += 1
            description = each.get("description")
            if found := flaw(document, each["name"], each["schema"], description):
                flaws.append((method, path, each["name"], found, description))
    assert count > 150
    assert flaws == []


def test_every_property_has_a_description_with_its_unit(document):
    flaws, seen, count = [], set(), 0
    for where, schema in schemas(document):
        for at, name, inner in properties(document, schema, where, seen):
            count += 1
            if found := flaw(document, name, inner, inner.get("description")):
                flaws.append((at, found, inner.get("description")))
    assert count > 200
    assert flaws == []


def test_tags_are_sentences_and_ingest_comes_first(document):
    tags = [tag["name"] for tag in document["tags"]]
    assert tags[0] == "ingest"
    assert all(re.fullmatch(r"[A-Z`].{20,}\.", tag["description"]) for tag in document["tags"])
    used = [operation["tags"] for *_, operation in operations(document)]
    assert all(len(each) == 1 for each in used)
    assert {each[0] for each in used} == set(tags)
    assert next(iter(document["paths"])) == "/api/v1/ingest"


def test_summaries_are_sentences_and_no_names_of_functions(document):
    flaws = []
    for *_, operation in operations(document):
        summary = operation.get("summary", "")
        words = summary.split()
        # FastAPI makes "Read Own Account" of a function's name.
        titled = len(words) > 1 and all(word[0].isupper() for word in words)
        if not re.fullmatch(r"[A-Z][^\n]{8,120}[^.\s]", summary) or titled or len(words) < 3:
            flaws.append(summary)
    assert flaws == []
    # PUT and PATCH do the same, and so do a broker's questions by GET and by POST.
    paths = {}
    for _, path, operation in operations(document):
        paths.setdefault(operation["summary"], set()).add(path)
    assert {summary: found for summary, found in paths.items() if len(found) > 1} == {}


# Examples


def bodies(document):
    """Return all request bodies: method, path, content type and the media type's object."""
    return [
        (method, path, kind, media)
        for method, path, operation in operations(document)
        for kind, media in operation.get("requestBody", {}).get("content", {}).items()
    ]


def test_every_request_body_has_examples(document):
    found = bodies(document)
    assert len(found) > 25
    assert [(method, path) for method, path, _, media in found if not media.get("examples")] == []
    # Swagger UI asks for a form member by member.
    for _, path, kind, media in found:
        if kind == "application/x-www-form-urlencoded":
            members = media["schema"]["properties"]
            assert all(member["examples"] for member in members.values()), path


@pytest.fixture(scope="module")
def things(server):
    """Return what examples are about, where they do not make it: by the parameter's name."""
    http = server.http
    network = http.post("/networks", json={"network_name": "fields"}).json()["network_identifier"]
    members = {"network_identifier": network}
    assert http.post("/devices", json={"device_id": "fields-1", **members}).status_code == 201
    to = {"name": "Fields", "type": "email", "to": ["ada@example.org"]}
    channel = http.post("/channels", json=to | members).json()
    node = http.post("/nodes", json={"serial_number": "n", "firmware_version": "1"}).json()
    silence = http.post("/silences", json={"starts_at": 4_102_444_800, "ends_at": 4_102_448_400})
    board = http.post(f"/networks/{network}/boards", json={"name": "Lobby"}).json()
    with sqlite3.connect(server.folder / "heliograph.db") as database:
        made = database.execute(
            "INSERT INTO alert (rule, name, severity, summary, raised_at, noted_at, telling)"
            " VALUES ('x', 'x', 'info', 'x', 1, 1, '{}') RETURNING id"
        )
        alert = made.fetchone()[0]
    return {
        "alert_id": alert,
        "silence_id": silence.json()["id"],
        "board_id": board["id"],
        "identifier": "greenhouse-1",
        "device_id": "greenhouse-1",
        "network_identifier": network,
        "node_id": node["node_identifier"],
        "rule_id": "8f0c7f5e-2f6b-4f0a-9d0e-6b1d2c3a4e5f",
        "channel_id": channel["id"],
        "username": "ada",
    }


def turn(case):
    """Return when it is tried: what makes things comes first, and a new password last."""
    method, path, *_ = case
    last = path.endswith("/password")
    return last, method != "post" or "{" in path or path.count("/") > 3 or "ingest" in path


def test_every_request_bodys_example_works(server, document, things):
    tried = 0
    for method, path, kind, media in sorted(bodies(document), key=turn):
        headers = {"content-type": kind, "x-api-key": server.http.headers["x-api-key"]}
        if path.endswith("/users/me/password"):
            told = server.http.post("/authentication", json=USER).json()
            headers = {"content-type": kind, "authorization": f"Bearer {told['access_token']}"}
        for shows, example in media["examples"].items():
            if path.endswith("/setup"):
                example["value"]["code"] = server.http.headers["x-api-key"]
            form = {"data" if "form" in kind else "json": example["value"]}
            url = f"{server.http.base_url}{path.format(**things)}"
            if path.endswith("/test"):
                url += "?sensor=greenhouse-1"
            answer = httpx.request(method, url, headers=headers, **form)
            assert answer.is_success, (method, path, shows, answer.text)
            if path.endswith("/annotations"):
                things["annotation_id"] = answer.json()["id"]
            if "rejected" in answer.text:
                told = answer.json()
                assert told["rejected"] == []
                assert told["accepted"] + told["duplicates"] > 0
            tried += 1
    assert tried > 40


# What is said of a request that is wrong


# The words of those who wrote Python and pydantic, not of who wrote the request.
LEAKS = re.compile(
    r"Value error|Assertion|dictionary|\blist\b|urn:uuid|unicode|None\b|unable to interpret"
    r"|after validation|`\$|Object missing|class|Traceback|msgspec|pydantic",
    re.IGNORECASE,
)
WRONG_TEXTS = ("", "wrong, that", "-1", "9" * 5_000, "2024-13-01T00:00:00Z")
WRONG_VALUES = (
    None,
    True,
    -1,
    1.5,
    "",
    "wrong, that",
    "x" * 300,
    "\0",
    [],
    {},
    [[]],
    {"x": 10**30},
)

# One of each type of JSON's.
WRONG_BODIES = (None, True, -1, "", [], {}, [[]])


async def test_no_message_is_in_a_librarys_words(site, document):
    said = set()

    def note(answer):
        assert answer.status_code < 500
        if answer.headers.get("content-type") == "application/json" and answer.is_client_error:
            detail = answer.json()["detail"]
            said.update([detail] if isinstance(detail, str) else [each["msg"] for each in detail])

    async with site(mqtt_listen=()) as here:
        await here.device("greenhouse-1")
        account = await here.user("ada")
        for method, path, operation in operations(document):
            names = [
                each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"
            ]
            if operation["tags"] == ["live"] or not (names or "requestBody" in operation):
                continue
            url = re.sub(r"\{\w+\}", "greenhouse-1", path)
            headers = account if "/users/" in path else ADMIN
            for text in WRONG_TEXTS if names else ():
                query = dict.fromkeys(names, text)
                note(await here.http.request(method, url, params=query, headers=headers))
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content:
                names = members(document, content["schema"])
                bodies = [dict.fromkeys(names, value) for value in WRONG_VALUES]
                for body in (*bodies, *WRONG_BODIES):
                    note(await here.http.request(method, url, json=body, headers=headers))
    assert len(said) > 50
    assert [message for message in said if LEAKS.search(message)] == []


def members(document, schema):
    """Return the names of all members that a body may have."""
    schema = resolved(document, schema)
    inner = [schema, *schema.get("anyOf", ())]
    return {name for each in inner for name in resolved(document, each).get("properties", ())}
