"""Canonical text and fingerprints."""

import json

import pytest
from hypothesis import given

from heliograph.model.canonical import canonical
from heliograph.model.fingerprints import fingerprint, measurement_fingerprint, signed64
from heliograph.model.records import Kind
from unit.ingest.payloads import values


class TestCanonical:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"b": 1, "a": {"d": [], "c": None}}, '{"a":{"c":null,"d":[]},"b":1}'),
            ("°/<\u2028\x7f", '"°/<\u2028\x7f"'),
            ('"\\\n\x1f', '"\\"\\\\\\n\\u001f"'),
            ([1, 1.0, True, -0.0, 0.1, 1e22], "[1,1.0,true,-0.0,0.1,1e22]"),
        ],
    )
    def test_text_is_sorted_and_dense(self, value, text):
        assert canonical(value).decode() == text

    @given(values)
    def test_text_means_the_value_and_is_its_own_canonical_text(self, value):
        text = canonical(value)
        assert repr(json.loads(text)) == repr(json.loads(json.dumps(value, sort_keys=True)))
        assert canonical(json.loads(text)) == text


class TestFingerprint:
    def test_fingerprints_never_change(self):
        assert fingerprint(Kind.MEASUREMENT, 1, {"b": 1.5, "a": "é"}) == 2_305_251_455_083_948_922
        assert fingerprint(Kind.LOG, None, "info", "x", None) == -2_630_879_748_865_506_447

    @given(values)
    def test_measurement_fingerprint_is_the_fingerprint_of_a_measurement(self, value):
        for revision in (None, 0, 2**31 - 1):
            expected = fingerprint(Kind.MEASUREMENT, revision, value)
            assert measurement_fingerprint(revision, canonical(value)) == expected
            assert -(2**63) <= expected < 2**63

    def test_kinds_and_positions_differ(self):
        numbers = {
            fingerprint(Kind.LOG, 1, "a", "b"),
            fingerprint(Kind.HEARTBEAT, 1, "a", "b"),
            fingerprint(Kind.LOG, 1, "ab", ""),
            fingerprint(Kind.LOG, 1, ["a", "b"]),
            fingerprint(Kind.LOG, "1", "a", "b"),
        }
        assert len(numbers) == 5

    @pytest.mark.parametrize(
        ("number", "signed"), [(0, 0), (2**63 - 1, 2**63 - 1), (2**63, -(2**63)), (2**64 - 1, -1)]
    )
    def test_sign_is_the_highest_bit(self, number, signed):
        assert signed64(number) == signed
