import pytest

from promql import Selector, named


@pytest.mark.parametrize(
    ("expression", "selectors", "labels"),
    [
        ("up == 0", [Selector("up")], set()),
        ('up{job="a", instance=~"b|{c}"} > 0.9 * x{}', None, set()),
        ("sum by (le, code) (rate(a_total[5m]))", [Selector("a_total")], {"le", "code"}),
        ("sum(a) by (b)", [Selector("a")], {"b"}),
        ("a / on (b) group_left (c) d", [Selector("a"), Selector("d")], {"b", "c"}),
        ("rate(a[$__rate_interval]) and bool_total", [Selector("a"), Selector("bool_total")], None),
        ("histogram_quantile(0.99, a offset 1h) > 1e9", [Selector("a")], set()),
        ("time() - (a > 0) or vector(1)", [Selector("a")], set()),
    ],
)
def test_what_an_expression_names(expression, selectors, labels):
    found = named(expression)
    if selectors is None:
        matchers = {"job": ("=", "a"), "instance": ("=~", "b|{c}")}
        selectors = [Selector("up", matchers), Selector("x")]
    assert found.selectors == selectors
    assert found.labels == (labels or set())


@pytest.mark.parametrize("expression", ["a;b", "a{b", 'a{b>"c"}', "sum by (a"])
def test_what_is_not_understood_is_refused(expression):
    with pytest.raises(ValueError, match=r"missing|not understood|no condition"):
        named(expression)
