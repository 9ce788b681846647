"""Log lines: where they come from, how they look, and what they do not hold."""

import contextlib
import io
import json
import logging
import re
import secrets
import warnings
from collections import Counter
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from heliograph import line_rate, logs
from heliograph.line_rate import AT_ONCE
from heliograph.log_areas import OTHER, area_of, parse_level
from heliograph.masking import MASK, mask_text, mask_value
from heliograph.model.credentials import new_api_key

pytestmark = pytest.mark.usefixtures("restored_logging")

ROUTED = ["uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "alembic"]


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def last(stream: io.StringIO) -> dict[str, object]:
    return json.loads(stream.getvalue().splitlines()[-1])


def test_json_lines(stream):
    logs.configure("info", "json", stream=stream)
    structlog.get_logger("here").info("something", count=3, text="ü\n")
    line = last(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "something",
        "level": "info",
        "logger": "here",
        "type": "other",
        "count": 3,
        "text": "ü\n",
    }
    assert stream.getvalue().count("\n") == 1


def test_console_lines_are_plain_where_there_is_no_terminal(stream):
    logs.configure("info", "console", stream=stream)
    structlog.get_logger("here").info("something", count=3)
    assert "something" in stream.getvalue()
    assert "count=3" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_areas_have_levels_of_their_own(stream):
    link, front = map(structlog.get_logger, ("heliograph.mqtt.link", "heliograph.http.front"))
    levels = [parse_level(text) for text in ("MQTT = Debug", "http=error")]
    assert levels == ["mqtt=debug", "api=error"]
    logs.configure("info", "json", stream=stream, levels=levels)
    link.debug("shown")
    front.warning("hidden")
    structlog.get_logger("heliograph.store.sqlite").debug("hidden")
    structlog.get_logger("heliograph.store.sqlite").info("shown")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["type"]) for line in lines] == [
        ("shown", "mqtt"),
        ("shown", "database"),
    ]
    # What is not named any more goes by the level of the whole again.
    logs.configure("warning", "json", stream=stream)
    link.info("hidden")
    front.warning("shown")
    assert (last(stream)["event"], last(stream)["type"]) == ("shown", "api")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("mqtt", "'mqtt' should be like mqtt=debug"),
        ("mqt=debug", "there is no area 'mqt': did you mean `mqtt`?"),
        ("mqtt=loud", "mqtt: should be one of debug, info, warning, error, critical, not 'loud'"),
    ],
)
def test_a_level_that_is_none_is_refused(text, wrong):
    with pytest.raises(ValueError, match=re.escape(wrong)):
        parse_level(text)


def test_every_part_of_the_server_that_logs_has_an_area():
    sources = Path(logs.__file__).parent
    for file in sources.rglob("*.py"):
        if "structlog.get_logger()" in file.read_text() and file.name != "logs.py":
            module = file.relative_to(sources.parent).with_suffix("")
            assert area_of(".".join(module.parts)) != OTHER, module


def test_of_one_kind_of_warning_some_are_written_and_the_next_tells_of_the_others(
    stream, tmp_path, monkeypatch
):
    at = [1_000.0]
    monkeypatch.setattr(line_rate, "monotonic", lambda: at[0])
    file = logs.LogFile(tmp_path / "server.log", maxBytes=100_000, backupCount=1)
    logs.configure("info", "json", stream=stream, file=file)
    ours, library = structlog.get_logger("here"), logging.getLogger("uvicorn.error")

    def told():
        text, _ = stream.getvalue(), stream.truncate(0)
        lines = [json.loads(line) for line in text.replace("\0", "").splitlines()]
        return Counter(line["event"] for line in lines), lines[-1].get("not_logged_before")

    for number in range(AT_ONCE + 7):
        ours.warning("failed", number=number)
        ours.info("as ever")
        library.error("Failed too: %s\n", number)
    ours.error("other")
    events, _ = told()
    assert events["failed"] == AT_ONCE
    assert events["as ever"] == AT_ONCE + 7
    assert sum(events.values()) == 3 * AT_ONCE + 7 + 1
    assert len(Path(file.baseFilename).read_text().splitlines()) == sum(events.values())
    at[0] += 1
    library.error("Failed too: %s\n", "again")
    assert told() == ({"Failed too: again\n": 1}, 7)
    ours.warning("failed", not_logged_before=2)
    assert told() == ({"failed": 1}, 9)
    # However many kinds there are.
    for number in range(2 * logs.MOST_KINDS):
        structlog.get_logger("here").error(str(number))
    (bounded,) = (each for each in logging.getLogger().handlers if isinstance(each, logs.Bounded))
    assert len(bounded._rates) <= logs.MOST_KINDS
    logs.configure("info", "json", stream=stream)
    assert file.stream is None  # it is closed


def test_a_full_disk_is_told_once_and_ends_nothing(stream, tmp_path, capsys):
    file = logs.LogFile(tmp_path / "server.log", maxBytes=10_000, backupCount=1)
    logs.configure("info", "json", stream=stream, file=file)
    logger = structlog.get_logger("here")
    written, file.stream = file.stream, Path("/dev/full").open("w")  # noqa: SIM115 - closed below
    for _ in range(3):
        logger.info("lost")
    assert capsys.readouterr().err.count("can't be written: [Errno 28]") == 1
    with contextlib.suppress(OSError):
        file.stream.close()
    file.stream = written
    logger.info("kept")
    # Once it was well, it is told again.
    written, file.stream = file.stream, Path("/dev/full").open("w")  # noqa: SIM115 - closed below
    logger.info("lost")
    assert capsys.readouterr().err.count("can't be written: [Errno 28]") == 1
    with contextlib.suppress(OSError):
        file.stream.close()
    file.stream = written
    logs.configure("info", "json", stream=stream)
    assert file.stream is None, "it was closed"
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == [
        *("lost", "lost", "lost", "kept", "lost"),
    ]
    assert json.loads((tmp_path / "server.log").read_text())["event"] == "kept"


@pytest.mark.parametrize("name", ROUTED)
def test_the_libraries_loggers_go_the_same_way(stream, name):
    # As the library itself has set it up.
    own = io.StringIO()
    logging.getLogger(name).addHandler(logging.StreamHandler(own))
    logging.getLogger(name).propagate = False
    logs.configure("info", "json", stream=stream)
    logging.getLogger(name).warning("from %s", name)
    assert last(stream)["event"] == f"from {name}"
    assert last(stream)["logger"] == name
    assert own.getvalue() == ""
    assert stream.getvalue().count("\n") == 1


def test_warnings_are_lines_and_statements_are_not(stream):
    logs.configure("debug", "json", stream=stream)
    warnings.warn("old", UserWarning, stacklevel=1)
    assert "UserWarning: old" in str(last(stream)["event"])
    assert not logging.getLogger("aiosqlite").isEnabledFor(logging.INFO)


def test_level_and_format_may_change_while_loggers_are_in_use(stream):
    logger = structlog.get_logger("used")
    logs.configure("warning", "json", stream=stream)
    logger.info("unseen")
    assert stream.getvalue() == ""
    logs.configure("DEBUG", "console", stream=stream)
    logger.debug("seen")
    assert "seen" in stream.getvalue()
    assert "{" not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_secret_is_written(stream, form):
    key = new_api_key()
    logs.configure("info", form, stream=stream)
    logger = structlog.get_logger()
    logger.info(
        "connecting to postgresql://user:hidden@host/d",
        password="hidden",
        headers={"X-API-Key": "hidden", "authorization": "Bearer hidden"},
        listed=[("mqtt://u:hidden@h", key)],
    )
    # Where it does not belong: in a path, as a user name.
    token = secrets.token_hex(32)
    logger.info("request answered", path=f"/devices/{token}", username=token)
    logger.info("request answered", path=f"/events/{token}.{token}")
    logging.getLogger("asyncio").warning("login with %s and X-API-Key: hidden", key)
    error = ValueError(f"Bearer hidden, sent to postgresql://u:hidden@h with {key}")
    logger.error("failed", exc_info=error)
    assert "hidden" not in stream.getvalue()
    assert key not in stream.getvalue()
    assert token not in stream.getvalue()
    assert stream.getvalue().count(MASK) >= 9


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_secret_of_the_settings_stands_in_no_line(stream, form):
    """Whoever confuses user name and password shows the one as the other."""
    hidden = ('quoted "secret" \\ ü\x1b', "of-device-one", "of-device-two")
    logs.configure("info", form, stream=stream, secrets=(*hidden, "of"))
    for text in hidden:
        structlog.get_logger("here").warning("log-in refused", username=text)
        logging.getLogger("asyncio").warning("read %s", text)
    assert stream.getvalue().count(MASK) == 2 * len(hidden)
    assert stream.getvalue().count("of") == 0
    assert "secret" not in stream.getvalue()


HOSTILE = "a\x1b[2J\x07\n2026-01-01 [info] forged\r\x7f\x9b\x85\u2028\u2029\u202e\ud800"


@pytest.mark.parametrize("form", ["json", "console"])
def test_strangers_text_forges_no_line_and_commands_no_terminal(stream, form):
    """User names, topics, payloads in tracebacks, what libraries log: whatever reaches a line."""
    logs.configure("info", form, stream=stream)
    logger = structlog.get_logger()
    logger.warning("log-in refused", username=HOSTILE, listed=[HOSTILE], named={HOSTILE: HOSTILE})
    logger.warning(HOSTILE)
    logging.getLogger("uvicorn").warning("path %s", HOSTILE)
    lines = stream.getvalue().split("\n")
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)
    try:
        int(f"{HOSTILE}\n2026-01-01 [info] forged")
    except ValueError:
        logger.exception("failed")
    logger.error("failed", exc_info=ValueError(HOSTILE))
    text = stream.getvalue()
    assert all(line.isprintable() for line in text.split("\n"))
    assert "Traceback" in text
    assert not any(line.startswith("2026-01-01 [info]") for line in text.split("\n"))
    if form == "json":
        assert json.loads(text.split("\n")[0])["username"] == HOSTILE


@pytest.mark.parametrize(
    "name",
    [
        *("password", "api_key", "API-Key", "key", "token", "access_token", "authorization"),
        *("x-api-key", "cookie", "secret", "keys", "credentials"),
        *("api_secret_key", "METRICS_TOKEN", "device_api_keys"),
    ],
)
def test_names_of_secrets(name):
    assert mask_value(name, "hidden") == MASK
    assert mask_value(name, ["hidden"]) == MASK
    assert mask_value(name, None) is None


@pytest.mark.parametrize("name", ["keyboard", "tokens_per_second", "device_id", "monkey", "event"])
def test_names_of_other_things(name):
    assert mask_value(name, "shown") == "shown"


def test_values_become_plain_json():
    value = {1: (1, 2.5, True, None, b"x", {3})}
    assert mask_value("name", value) == {1: [1, 2.5, True, None, "b'x'", [3]]}
    endless: list[object] = []
    endless.append(endless)
    assert MASK in json.dumps(mask_value("name", endless))


@given(st.text(st.characters(codec="ascii", exclude_characters=" \t\n\r\x0b\x0c\"'"), min_size=1))
def test_passwords_in_urls(password):
    shown = mask_text(f"postgresql://user:{password}@database.local/d")
    if all(character.isprintable() for character in password):
        assert shown == f"postgresql://user:{MASK}@database.local/d"


PASSWORD_IN_URL = re.compile(r"(?<=://)([^\s/?#:@\"']*):([^\s\"']*)@")


@given(st.text("a:/@?# '\n", max_size=40))
def test_the_password_in_a_url_reaches_up_to_the_last_at_sign(text):
    expected = PASSWORD_IN_URL.sub(rf"\1:{MASK}@", text)
    assert mask_text(text) == expected


@pytest.mark.parametrize("text", ["://:", "://a:", "://", "@://a", "://a:@ "])
def test_a_long_text_is_masked_in_one_go(text):
    """Strangers' texts get here, as long as they like: each character is looked at once or twice.

    Looked at again for each colon, a megabyte would take hours.
    """
    long = "://a:b@ @" + text * (1_000_000 // len(text))
    assert mask_text(long).startswith(f"://a:{MASK}@")


@given(st.text())
def test_any_text_can_be_masked_again(text):
    assert mask_text(mask_text(text)) == mask_text(text)
