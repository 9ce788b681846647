"""Numbers that were sent as texts: they are kept as they came, and nothing counts with them."""

import re
from typing import Any

LONGEST = 40

# With a point or a comma. What begins with zeros, as numbers of things do, is meant as a text.
_NUMBER = re.compile(
    r" *[+-]?(?:(?:0|[1-9][0-9]*)(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)? *", re.ASCII
)


def is_number_text(value: Any) -> bool:
    """Return whether the value is a text that contains a number, such as "22.5"."""
    return type(value) is str and len(value) <= LONGEST and _NUMBER.fullmatch(value) is not None
