"""Which metrics and labels an expression in PromQL names."""

import dataclasses
import re

_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<window>\[[^]]*\])
    |(?P<variable>\$\w+)
    |(?P<name>[A-Za-z_:][\w:]*)
    |(?P<number>\d[\w.]*)
    |(?P<operator>=~|!~|!=|==|[<>]=?|=|[-+*/%^(){},@])
    |(?P<space>\s+)""",
    re.VERBOSE,
)
_OF_LABELS = frozenset(["by", "without", "on", "ignoring", "group_left", "group_right"])
_WORDS = frozenset(["and", "or", "unless", "bool", "offset"])


@dataclasses.dataclass
class Selector:
    """A metric, and its labels' conditions: operator and text."""

    metric: str
    matchers: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Named:
    """What an expression names: series, and labels that it groups or joins by."""

    selectors: list[Selector] = dataclasses.field(default_factory=list)
    labels: set[str] = dataclasses.field(default_factory=set)


def named(expression: str) -> Named:
    """Return what the expression names.

    Raises:
        ValueError: it has something that is not in this part of PromQL.
    """
    tokens = _tokens(expression)
    found = Named()
    while tokens:
        kind, token = tokens.pop(0)
        follows = tokens[0][1] if tokens else ""
        if kind != "name" or token in _WORDS:
            continue
        if token in _OF_LABELS:
            found.labels |= {text for kind, text in _until(tokens, ")") if kind == "name"}
        elif follows == "{":
            found.selectors.append(Selector(token, _matchers(_until(tokens, "}")[1:])))
        elif follows != "(" and not _is_aggregation(tokens):
            found.selectors.append(Selector(token))
    return found


def _tokens(expression: str) -> list[tuple[str, str]]:
    tokens, position = [], 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            raise ValueError(f"not understood: {expression[position:]!r}")
        position = match.end()
        if match.lastgroup != "space":
            tokens.append((str(match.lastgroup), match.group()))
    return tokens


def _is_aggregation(tokens: list[tuple[str, str]]) -> bool:
    """Return whether labels to group by come before what is aggregated: sum by (…) (…)."""
    return bool(tokens) and tokens[0][1] in ("by", "without")


def _until(tokens: list[tuple[str, str]], end: str) -> list[tuple[str, str]]:
    taken = []
    while tokens:
        taken.append(tokens.pop(0))
        if taken[-1][1] == end:
            return taken
    raise ValueError(f"{end} is missing")


def _matchers(tokens: list[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    matchers = {}
    while tokens[0][1] != "}":
        (kind, label), (_, operator), (of_value, value) = tokens[:3]
        if kind != "name" or of_value != "text" or operator not in ("=", "!=", "=~", "!~"):
            raise ValueError(f"no condition: {label}{operator}{value}")
        matchers[label] = operator, value[1:-1]
        del tokens[:3]
        if tokens[0][1] == ",":
            del tokens[0]
    return matchers
