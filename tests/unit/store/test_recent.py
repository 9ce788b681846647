from heliograph.store import postgresql
from heliograph.store.postgresql import RecentKeys, keys_of


def test_keys_are_those_of_sensor_timestamp_and_fingerprint():
    rows = [(1, 2, 3, 4, 5), (6, 2, 3, 4, 7), (1, 2, 3, 5, 5)]
    assert len(keys_of(rows)) == 2


def test_what_was_remembered_is_suspected_for_two_generations(monkeypatch):
    monkeypatch.setattr(postgresql, "KEYS_A_GENERATION", 10)
    keys = RecentKeys()
    assert not keys.suspect({1})
    keys.remember({1})
    assert keys.suspect({0, 1})
    assert not keys.suspect({0, 2})
    for start in (100, 200):
        keys.remember(range(start, start + 10))
    assert keys.suspect({1})
    keys.remember({300})
    keys.remember(range(400, 410))
    keys.remember({500})
    assert not keys.suspect({1})
