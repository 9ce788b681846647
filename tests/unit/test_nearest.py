"""What may be meant by a name that nobody knows."""

import difflib
import random

import pytest

from heliograph.nearest import COMPARED, did_you_mean, hint, nearest

NAMES = ["limit", "offset", "start", "end", "network_identifier"]


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("limt", NAMES, ["limit"]),
        ("LIMIT", NAMES, ["limit"]),
        ("network", NAMES, ["network_identifier"]),
        ("strat", NAMES, ["start"]),
        ("x", NAMES, []),
        ("", NAMES, []),
        ("limit" * 20, NAMES, []),
        ("temp", ["temperature", "tempo"], ["tempo", "temperature"]),
        ("e", ["end"], []),
        ("actve", ["late", "limit", "sort"], []),
        ("imit", NAMES, ["limit"]),
        ("external_temperature", ["temperature"], ["temperature"]),
        ("\ud800", NAMES, []),
    ],
)
def test_the_likeliest_come_first(name, names, expected):
    assert nearest(name, names) == expected


def test_the_question_names_them():
    assert did_you_mean("limt", NAMES) == ": did you mean `limit`?"
    assert did_you_mean("tempe", ["temperature", "tempera"], 2) == (
        ": did you mean `tempera` or `temperature`?"
    )
    assert did_you_mean("nothing_like_it", NAMES) == ""
    assert hint("limt", NAMES) == ": did you mean `limit`?"
    assert hint("x", NAMES) == "; there are end, limit, network_identifier, offset, start"
    assert hint("x", ()) == "; there are none here"


def test_of_many_names_few_are_compared_letter_by_letter(monkeypatch):
    compared = []

    class Matcher(difflib.SequenceMatcher):
        def ratio(self):
            compared.append(1)
            return super().ratio()

    monkeypatch.setattr("heliograph.nearest.difflib.SequenceMatcher", Matcher)
    chosen = random.Random(1)
    names = ["".join(chosen.choices("ab", k=60)) for _ in range(1_000)]
    assert nearest(names[0][:-2], names)[0] == names[0]
    assert 0 < len(compared) <= COMPARED
