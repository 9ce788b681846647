"""Text as people read it: strangers' names and payloads command no terminal and forge no line.

What is not printable by Unicode (ESC and BEL, C1 controls, line separators, marks that turn the
direction of writing, lone surrogates) is written as an escape.
"""

import re

# Wider than what is not printable, and quick to search for.
_SUSPECT = re.compile(r"[^\x20-\x7e]")


def printable(text: str) -> str:
    """Return the text as one line, with what is not printable as escapes of Python."""
    return text if text.isprintable() else _SUSPECT.sub(_python_escape, text)


def printable_lines(text: str) -> str:
    """Return the text with the lines that it has; each is printable."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    """Return JSON text that says the same, with what is not printable as escapes of JSON.

    The ends of lines between its values stay.
    """
    return text if text.isprintable() else _SUSPECT.sub(_json_escape, text)


def _python_escape(found: re.Match[str]) -> str:
    character = found[0]
    return character if character.isprintable() else ascii(character)[1:-1]


def _json_escape(found: re.Match[str]) -> str:
    character = found[0]
    if character == "\n" or character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
