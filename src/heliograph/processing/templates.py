"""Templates of actions and channels: texts and JSON with placeholders: `{{value.air.temperature}}`.

There is no logic in them. A placeholder names a root (an action's are `ROOTS`) and, dotted as
attributes are, what of it; one that is absent is empty. In a JSON template, a text that is a single
placeholder takes the value with its type (absent: null). What a placeholder brings is never read as
a template again, and in a topic it fills a level or a part of one, never more.
"""

import functools
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from heliograph.model.attributes import MISSING, WHOLE, keys_of
from heliograph.model.canonical import canonical
from heliograph.nearest import hint
from heliograph.processing.members import LONGEST_WRITTEN_TEXT, InvalidMemberError, text

# What the templates of actions may speak of.
ROOTS: Final = (
    "sensor",
    "network",
    "kind",
    "value",
    "timestamp",
    "rule",
    "alert",
    "idempotency_key",
)
# Of what is made of a template, in bytes.
LONGEST_RENDERED = 65_536
# Of a topic, in bytes.
LONGEST_TOPIC = 1_024
# Levels of arrays and objects in a JSON template.
DEEPEST = 16

_PLACEHOLDER: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_TOO_LONG: Final = "what the template makes is too long"
_WILDCARDS: Final = frozenset("+#")
_NOT_IN_A_LEVEL: Final = frozenset("/+#\0")


class TemplateError(ValueError):
    """What a template makes of a message can't be used."""


class _Placeholder(NamedTuple):
    root: str
    keys: tuple[str, ...]


def check(template: Any, place: str, roots: Collection[str] = ROOTS) -> Any:
    """Return the template, be it a text or JSON; `roots` are what it may speak of.

    Raises:
        InvalidMemberError: a placeholder is unknown or not closed, or the template is too large.
    """
    _check(template, place, DEEPEST, roots)
    if len(canonical(template)) > LONGEST_WRITTEN_TEXT:
        raise InvalidMemberError(place, f"is longer than {LONGEST_WRITTEN_TEXT} bytes")
    return template


def check_text(template: Any, place: str, roots: Collection[str] = ROOTS) -> str:
    """Return a template that has to be a text; raises as `check` does."""
    written = text(template, place)
    _check(written, place, DEEPEST, roots)
    return written


def check_topic(template: Any, place: str) -> str:
    """Return the template of a topic to publish on; raises as `check` does."""
    written = check_text(template, place)
    if any(isinstance(part, str) and not _WILDCARDS.isdisjoint(part) for part in _parts(written)):
        raise InvalidMemberError(place, "has a wildcard: nobody publishes on `+` and `#`")
    return written


def render_text(template: str, variables: Mapping[str, Any]) -> str:
    """Return the text with the variables in place of the placeholders.

    Raises:
        TemplateError: it becomes longer than LONGEST_RENDERED.
    """
    return _render(template, variables, _written, LONGEST_RENDERED)


def render_topic(
    template: str, variables: Mapping[str, Any], may_publish: Callable[[str], bool]
) -> str:
    """Return the topic that the template makes, if `may_publish` allows it.

    Raises:
        TemplateError: it is no topic, or not one to publish on.
    """
    topic = _render(template, variables, _level, LONGEST_TOPIC)
    if not topic or any(forbidden in topic for forbidden in "+#\0"):
        raise TemplateError(f"{topic!r} is no topic to publish on")
    if not may_publish(topic):
        raise TemplateError(f"the rule may not publish on {topic!r}")
    return topic


def render_json(template: Any, variables: Mapping[str, Any]) -> Any:
    """Return the JSON value with the variables in place of the placeholders, also in its keys.

    Raises:
        TemplateError: it becomes longer than LONGEST_RENDERED.
    """
    left = LONGEST_RENDERED

    def render(node: Any) -> Any:
        nonlocal left
        if isinstance(node, dict):
            return {str(written(key)): render(member) for key, member in node.items()}
        if isinstance(node, list):
            return [render(item) for item in node]
        if not isinstance(node, str):
            return node
        parts = _parts(node)
        if len(parts) != 1 or isinstance(parts[0], str):
            return written(node)
        found = _look_up(parts[0], variables)
        if found is MISSING:
            return None
        left -= len(canonical(found))
        if left < 0:
            raise TemplateError(_TOO_LONG)
        return found

    def written(node: str) -> str:
        nonlocal left
        rendered = _render(node, variables, _written, left)
        left -= len(rendered.encode())
        return rendered

    return render(template)


def _check(template: Any, place: str, depth: int, roots: Collection[str]) -> None:
    if depth < 0:
        raise InvalidMemberError(place, f"is nested more than {DEEPEST} levels deep")
    if isinstance(template, dict):
        for key, member in template.items():
            _check(key, place, depth, roots)
            _check(member, f"{place}.{key}", depth - 1, roots)
    elif isinstance(template, list):
        for index, item in enumerate(template):
            _check(item, f"{place}[{index}]", depth - 1, roots)
    elif isinstance(template, str):
        if template:
            text(template, place)
        for part in _parts(template):
            if isinstance(part, _Placeholder):
                if part.root not in roots:
                    raise InvalidMemberError(
                        place, f"`{part.root}` is not known{hint(part.root, roots)}"
                    )
            elif "{{" in part:
                raise InvalidMemberError(place, "opens a placeholder by `{{` and does not close it")


@functools.lru_cache(maxsize=1_024)
def _parts(template: str) -> tuple[str | _Placeholder, ...]:
    """Return the texts and placeholders that the template consists of, without empty texts."""
    parts: list[str | _Placeholder] = []
    # Texts and paths take turns.
    for index, part in enumerate(_PLACEHOLDER.split(template)):
        if index % 2:
            root, _, rest = part.strip().partition(".")
            parts.append(_Placeholder(root, keys_of(rest) if rest else ()))
        elif part:
            parts.append(part)
    return tuple(parts)


def _look_up(placeholder: _Placeholder, variables: Mapping[str, Any]) -> Any:
    node = variables.get(placeholder.root, MISSING)
    keys = placeholder.keys
    if keys == WHOLE and node is not MISSING and not isinstance(node, dict):
        return node
    for key in keys:
        if not isinstance(node, dict) or key not in node:
            return MISSING
        node = node[key]
    return node


def _render(
    template: str, variables: Mapping[str, Any], write: Callable[[Any], str], longest: int
) -> str:
    rendered: list[str] = []
    length = 0
    for part in _parts(template):
        written = part if isinstance(part, str) else write(_look_up(part, variables))
        length += len(written.encode())
        # What is too long is not put together first.
        if length > longest:
            raise TemplateError(_TOO_LONG)
        rendered.append(written)
    return "".join(rendered)


def _written(value: Any) -> str:
    if value is MISSING:
        return ""
    return value if isinstance(value, str) else canonical(value).decode()


def _level(value: Any) -> str:
    written = _written(value)
    if not _NOT_IN_A_LEVEL.isdisjoint(written):
        raise TemplateError(f"{written[:40]!r} would be more than a level of a topic")
    return written
