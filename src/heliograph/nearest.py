"""What may be meant by a name that nobody knows."""

import difflib
import heapq
from collections.abc import Collection, Iterable

# Of three letters and less too many names begin alike.
SHORTEST_BEGINNING = 3
# A longer one is no slip of the pen, and takes long to compare; and so do many.
LONGEST = 64
COMPARED = 32
CUTOFF = 0.6
# A slip of the pen mostly leaves the first letter. What has another one has to be more alike.
CUTOFF_OF_ANOTHER_LETTER = 0.75
# By how much a name that begins so goes before others: less is left out than mistyped.
BEGINS = 0.1


def nearest(name: str, names: Iterable[str], count: int = 3, cutoff: float = CUTOFF) -> list[str]:
    """Return up to `count` of the names, the likeliest first, whatever their case.

    `cutoff` is how alike they are at least (0 to 1), unless one begins with the name. It is more
    for one that begins with another letter, unless one of the two ends with the other.
    """
    if not name or len(name) > LONGEST:
        return []
    wanted = name.casefold()
    matcher = difflib.SequenceMatcher(b=wanted, autojunk=False)

    def likelihood(candidate: str, *, exactly: bool) -> float:
        folded = candidate.casefold()
        begins = len(wanted) >= SHORTEST_BEGINNING and folded.startswith(wanted)
        matcher.set_seq1(folded)
        if begins:
            ratio = matcher.real_quick_ratio()  # as it is, where one begins with the other
            return max(cutoff, ratio) + BEGINS * ratio
        if len(folded) > 2 * LONGEST or matcher.real_quick_ratio() < cutoff:
            return 0.0
        ratio = matcher.ratio() if exactly else matcher.quick_ratio()
        ends = folded.endswith(wanted) or wanted.endswith(folded)
        if ratio < CUTOFF_OF_ANOTHER_LETTER and folded[:1] != wanted[0] and not ends:
            return 0.0
        return ratio

    def best(candidates: Iterable[str], most: int, *, exactly: bool) -> list[str]:
        found = [(-likelihood(each, exactly=exactly), each) for each in candidates]
        return [each for less, each in heapq.nsmallest(most, found) if -less >= cutoff]

    return best(best(names, COMPARED, exactly=False), count, exactly=True)


def hint(name: str, names: Collection[str]) -> str:
    """Return what ends a message about an unknown name: the likely one, or all that there are."""
    if question := did_you_mean(name, names):
        return question
    return f"; there are {', '.join(sorted(names))}" if names else "; there are none here"


def did_you_mean(name: str, names: Iterable[str], count: int = 1) -> str:
    """Return the question that ends a message about an unknown name; empty without a likely one."""
    found = [f"`{each}`" for each in nearest(name, names, count)]
    return f": did you mean {' or '.join(found)}?" if found else ""
