"""The id of the request that is being answered, for its answer and for the log.

Most requests succeed, and nobody asks for their id: it is made when somebody does.
"""

import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

HEADER: Final = b"x-request-id"
# What a client or a proxy may give: it is written into logs and answers as it came.
GIVEN: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")

CURRENT: ContextVar[Callable[[], str] | None] = ContextVar("request_id", default=None)
