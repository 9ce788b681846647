"""The canonical text of a JSON value."""

from collections.abc import Callable
from typing import Any

import msgspec

# Returns the value's one JSON text: sorted keys, no white space, UTF-8. Not wrapped in a
# function, since it runs for every measurement.
canonical: Callable[[Any], bytes] = msgspec.json.Encoder(order="sorted").encode
