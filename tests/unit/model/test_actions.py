"""The key by which receivers know an action that is run again."""

from heliograph.model.actions import idempotency_key

WHAT = ("7b0c7a0c-58b8-4d22-b6ac-2ff1b0b0f3a1", 1, "webhook", 3, 1_764_460_800_000_000, -5)


def test_a_key_is_the_same_for_ever_and_another_one_for_another_action():
    # Receivers have noted it: an update of the server must not change it.
    assert idempotency_key(*WHAT) == "389e7963-9aab-5a68-9891-a0bf37e55f89"
    for at, other in enumerate(("other", 2, "mqtt", 4, 5, 6)):
        what = (*WHAT[:at], other, *WHAT[at + 1 :])
        assert idempotency_key(*what) != idempotency_key(*WHAT)
