"""Which passwords are too easy to guess."""

import pytest

from heliograph.model.credentials import _commonest, weakness


@pytest.mark.parametrize(
    ("password", "username", "expected"),
    [
        ("12345678", "ada", "is one of the commonest passwords"),
        ("PassWord1", "ada", "is one of the commonest passwords"),
        ("Heliograph", "ada", "is the program's name"),
        ("ada-of-the-roof", "Ada-of-the-roof", "is the user name"),
        ("a long one", "ada", None),
        ("correct horse", "ada", None),
        ("correct horse battery staple", "ada", None),
        ("", "ada", None),
    ],
)
def test_what_is_weak(password, username, expected):
    assert weakness(password, username) == expected


def test_the_list_is_long_enough_to_be_of_use():
    """Should the package keep it elsewhere one day, a version of it is not taken for ours."""
    assert len([password for password in _commonest() if len(password) >= 8]) > 10_000
