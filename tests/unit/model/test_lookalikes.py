"""What names look like."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.account import is_username
from heliograph.model.lookalikes import Holders, _prototypes, looks, skeleton

# As confusables.txt of Unicode has them.
CONFUSABLE = [
    ("\u0430", "a"),
    ("\u03bf", "o"),
    ("\u0405", "S"),
    ("I", "l"),
    ("1", "l"),
    ("|", "l"),
    ("0", "O"),
    ("m", "rn"),
    ("\uff21", "A"),
    ("\U0001d41a", "a"),
    ("\u13aa", "A"),
    ("\u05d5", "l"),
    ("\u2013", "-"),
    ("\u06d4", "-"),
    ("\u01c6", "dz\u030c"),
]


@pytest.mark.parametrize(("text", "other"), CONFUSABLE)
def test_what_is_confusable_has_one_skeleton(text, other):
    assert skeleton(text) == skeleton(other)
    assert looks(f"x{text}y") & looks(f"x{other}y")


def test_the_table_is_whole():
    """Should the package keep it elsewhere one day, a version of it is not taken for ours."""
    assert len(_prototypes()) > 6_000
    assert not [one for one in _prototypes().values() if one.startswith("\u200e")]


def test_plain_names_are_told_apart():
    names = [
        "ada",
        "adam",
        "bob",
        "eve",
        "user-2",
        "user-3",
        "jos\u00e9",
        "jose",
        "\u00e5sa",
        "asa",
    ]
    names += ["\u0438\u0432\u0430\u043d", "\u738b\u5c0f\u660e", "lvan", "ivan", "pump_1", "pump.1"]
    found = Holders()
    for name in names:
        found.add(name, name)
    assert not found.alike


def test_what_looks_alike_to_two_that_do_not():
    assert looks("Ivan") & looks("ivan")
    assert looks("Ivan") & looks("lvan")
    assert not looks("ivan") & looks("lvan")
    found = Holders()
    for name in ("ivan", "lvan", "Ivan"):
        found.add(name, name)
    assert list(found.alike) == [("Ivan", "ivan"), ("Ivan", "lvan")]


@given(st.text(max_size=20))
def test_a_skeleton_is_its_own_skeleton_and_case_makes_no_difference(text):
    bare = skeleton(text)
    assert skeleton(bare) == bare == unicodedata.normalize("NFD", bare)
    assert looks(text) & looks(unicodedata.normalize("NFKC", text).casefold())
    assert looks(text) & looks(unicodedata.normalize("NFC", text))


@given(st.text(min_size=1, max_size=5).filter(is_username), st.sampled_from("\ufe0f\u3164\u034f"))
def test_what_is_not_seen_makes_no_difference(name, unseen):
    assert looks(name + unseen) == looks(name)
