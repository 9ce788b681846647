"""What UTF-8 encodes, for Hypothesis."""

import sys
from unittest import mock

from hypothesis.internal import charmap
from hypothesis.internal.intervalsets import IntervalSet

_by_trying = charmap.intervals_from_codec
_ALL_BUT_SURROGATES = IntervalSet(((0, 0xD7FF), (0xE000, sys.maxunicode)))


def known() -> "mock._patch[object]":
    """Return the patch that tells Hypothesis of it, to be started.

    Where it has never been asked for a text, as in a fresh clone, each process would try all
    characters, for two seconds.
    """
    return mock.patch.object(charmap, "intervals_from_codec", _intervals)


def _intervals(codec: str) -> tuple[IntervalSet, IntervalSet]:
    """Return what the codec encodes, and what of it does not come back the same."""
    if codec == "utf-8":
        return _ALL_BUT_SURROGATES, IntervalSet(())
    return _by_trying(codec)
