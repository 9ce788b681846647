"""Names that look alike: the skeletons of UTS #39, and the same without regard to case."""

import functools
import json
import unicodedata
from pathlib import Path

# It has Unicode's confusables as pairs, each in both directions.
_PACKAGE, _PAIRS = "homoglyphs-fork", "homoglyphs_fork/confusables.json"
_LEFT_TO_RIGHT = "\u200e"  # around what is written from right to left there
# Unicode's Default_Ignorable_Code_Point as far as it is printable, which `unicodedata` lacks.
_INVISIBLE = dict.fromkeys(
    (
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),
        *range(0x180B, 0x1810),
        *range(0xFE00, 0xFE10),
        *range(0xE0100, 0xE01F0),
    )
)


def looks(name: str) -> frozenset[str]:
    """Return what the name looks like: two names that share a look are easily confused.

    `Alice` looks like `alice`, `ALICE`, and each of them with a Cyrillic a; `Ivan` like `ivan`
    and, with a small l, `lvan`, which two do not look alike.

    The first call takes some 20 ms.
    """
    plain = skeleton(name)
    return frozenset((plain, skeleton(_folded(name)), skeleton(_folded(plain))))


class Holders:
    """Whose look is whose: of those who share one, the first to come has it."""

    def __init__(self) -> None:
        self.by_look: dict[str, str] = {}
        # Each that looks like an earlier one, with that one, in their order.
        self.alike: dict[tuple[str, str], None] = {}

    def add(self, identifier: str, name: str) -> None:
        """Let an account have what is left of its name's looks."""
        for look in sorted(looks(name)):
            holder = self.by_look.setdefault(look, identifier)
            if holder != identifier:
                self.alike[identifier, holder] = None


def skeleton(text: str) -> str:
    """Return the text with each character as the one that stands for all that look like it.

    As `skeleton` of UTS #39, section 4, has it; names are read from left to right. Once more,
    because what a character expands to may be made of others: the caron of a dž.
    """
    text = unicodedata.normalize("NFD", text).translate(_INVISIBLE)
    for _ in range(2):
        text = unicodedata.normalize("NFD", text.translate(_prototypes()))
    return text


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


@functools.cache
def _prototypes() -> dict[int, str]:
    """Return what stands for a character, of all that do not stand for themselves.

    Of each pair one stands for the other. What has several partners stands for them all, and
    what a character expands to stands for it. Two that have but each other are told apart by
    which of them is part of such an expansion; otherwise it is the same which one is taken.
    """
    from importlib import metadata  # noqa: PLC0415 - 20 ms, which most commands need not take

    path = Path(str(metadata.distribution(_PACKAGE).locate_file(_PAIRS)))
    partners: dict[str, set[str]] = {}
    for one, others in json.loads(path.read_text("utf-8")).items():
        for other in others:
            pair = one.strip(_LEFT_TO_RIGHT), other.strip(_LEFT_TO_RIGHT)
            partners.setdefault(pair[0], set()).add(pair[1])
            partners.setdefault(pair[1], set()).add(pair[0])
    expanded = {character for text in partners if len(text) > 1 for character in text}

    def rank(text: str) -> tuple[bool, bool, bool, int]:
        return len(text) > 1, len(partners[text]) > 1, text in expanded, -ord(text[0])

    found: dict[int, str] = {}
    for text, others in partners.items():
        if len(text) == 1 and len(others) == 1:
            (other,) = others
            if rank(other) > rank(text):
                found[ord(text)] = other
    return found
