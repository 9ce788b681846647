"""Many times as texts at once.

Nothing imports this before it is needed: numpy takes 25 MiB and a tenth of a second.
"""

from collections.abc import Sequence

import numpy as np


def to_rfc3339(microseconds: Sequence[int]) -> list[str]:
    """Return what `time.to_rfc3339` does of each, in a third of the time."""
    moments = np.array(microseconds, "datetime64[us]")
    texts: list[str] = np.datetime_as_string(moments, timezone="UTC").tolist()
    return texts
