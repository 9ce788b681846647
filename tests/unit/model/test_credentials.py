"""Device keys and their hashes."""

import hashlib
import re

from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.credentials import hash_key, is_guessable, new_api_key


def test_keys_are_256_random_bits_behind_a_prefix():
    keys = {new_api_key() for _ in range(200)}
    assert len(keys) == 200
    assert all(re.fullmatch(r"hg_[A-Za-z0-9_-]{43}", key) for key in keys)
    assert not any(map(is_guessable, keys))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_hash_is_sha_256_of_the_text(key):
    assert hash_key(key) == hashlib.sha256(key.encode()).digest()


def test_a_lone_surrogate_is_hashed_too():
    assert len(hash_key("\udcff")) == 32
