from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.attributes import MISSING, attributes_of, keys_of, member_text, value_at
from heliograph.model.canonical import canonical

keys = st.text(alphabet=st.sampled_from('a.\\"\u00e9\n'), max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.lists(st.integers()),
    lambda children: st.dictionaries(keys, children, max_size=4),
    max_leaves=12,
)


def leaves(value, path=()):
    if not isinstance(value, dict):
        return {path: value}
    found = {}
    for key, member in value.items():
        found.update(leaves(member, (*path, key)))
    return found


@given(values)
def test_every_attribute_is_found_by_its_name_and_no_other(value):
    found = {keys_of(name): value_at(value, keys_of(name)) for name in attributes_of(value)}
    expected = leaves(value) if isinstance(value, dict) else {("value",): value}
    assert found == expected


@given(values)
def test_the_canonical_text_contains_each_attributes_key(value):
    text = canonical(value).decode()
    if isinstance(value, dict):
        assert all(member_text(keys_of(name)) in text for name in attributes_of(value))


def test_parents_and_what_is_not_there_are_missing():
    value = {"a": {"b": 1}, "c": [1]}
    for path in (("a",), ("b",), ("c", "0"), ("a", "b", "c"), ("value",)):
        assert value_at(value, path) is MISSING
    assert value_at(5, ("a",)) is MISSING
