import json

import pytest
from bench.comparison import alternate, percentile
from bench.result import Goal, Result, Sample, significant
from bench.shape import check_shape

AT_LEAST = Goal(0.6)


def result(figures, ceilings, goal=AT_LEAST):
    return Result(
        "name", "messages/s", goal, [Sample(f, 1.0) for f in figures], [Sample(c) for c in ceilings]
    )


def test_the_medians_are_compared():
    found = result([50.0, 70.0, 1_000.0], [100.0, 90.0, 1.0])
    assert found.figure == 70.0
    assert found.ceiling == 90.0
    assert found.ratio == pytest.approx(7 / 9)


@pytest.mark.parametrize(
    ("goal", "figure", "ceiling", "met"),
    [
        (Goal(0.6), 60.0, 100.0, True),
        (Goal(0.6), 59.0, 100.0, False),
        (Goal(1.5, "ratio", "at most"), 1.5, 1.0, True),
        (Goal(1.5, "ratio", "at most"), 1.6, 1.0, False),
        (Goal(10, "figure", "at most"), 10.0, 0.1, True),
        (Goal(10, "figure", "at most"), 10.1, 100.0, False),
        (Goal(0.6), 60.0, 0.0, False),
    ],
)
def test_a_goal_is_of_the_ratio_or_of_the_figure(goal, figure, ceiling, met):
    assert result([figure], [ceiling], goal).met is met


def test_the_document_has_the_promised_members():
    document = result([60.0], [100.0]).document()
    check_shape({"name": json.loads(json.dumps(document))}, ["name"])
    assert document["cpu_seconds_per_100k"] == {"figure": 1.0, "ceiling": None}
    assert document["rounds"] == {"figure": [60.0], "ceiling": [100.0]}


@pytest.mark.parametrize("member", ["figure", "ceiling", "ratio", "unit", "goal"])
def test_a_document_without_a_member_is_refused(member):
    document = result([60.0], [100.0]).document()
    del document[member]
    with pytest.raises(ValueError, match=member):
        check_shape({"name": document}, ["name"])


@pytest.mark.parametrize(
    ("member", "value"),
    [("figure", None), ("figure", 0.0), ("ratio", float("nan")), ("goal", True), ("unit", "")],
)
def test_a_document_with_a_hollow_member_is_refused(member, value):
    document = {**result([60.0], [100.0]).document(), member: value}
    with pytest.raises(ValueError, match="name: "):
        check_shape({"name": document}, ["name"])


def test_memory_that_did_not_grow_is_a_measurement():
    document = {**result([0.0], [0.0]).document(), "unit": "MiB"}
    assert document["ratio"] is None
    check_shape({"name": document}, ["name"])


def test_a_document_of_other_benchmarks_is_refused():
    with pytest.raises(ValueError, match="benchmarks"):
        check_shape({"name": result([60.0], [100.0]).document()}, ["other"])


def test_extra_numbers_are_medians_of_the_samples():
    figures = [Sample(1.0, None, {"p99": p}) for p in (1.0, 3.0, 2.0)]
    document = Result("name", "ms", Goal(1.5), figures, figures).document()
    assert document["p99"] == 2.0
    assert document["ceiling_p99"] == 2.0


def test_the_sides_alternate_and_take_turns_in_beginning():
    order = []

    def side(name):
        def measure():
            order.append(name)
            return Sample(float(len(order)))

        return measure

    figures, ceilings = alternate(3, side("figure"), side("ceiling"))
    assert order == ["figure", "ceiling", "ceiling", "figure", "figure", "ceiling"]
    assert [sample.value for sample in figures] == [1.0, 4.0, 5.0]
    assert [sample.value for sample in ceilings] == [2.0, 3.0, 6.0]


@pytest.mark.parametrize(("share", "found"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.0, 1.0)])
def test_a_percentile_is_a_sample(share, found):
    assert percentile([float(number) for number in range(1, 101)], share) == found


@pytest.mark.parametrize(
    ("number", "rounded"), [(123_456.7, 123_457.0), (0.012_345, 0.012_35), (None, None)]
)
def test_figures_have_four_significant_digits(number, rounded):
    assert significant(number) == rounded
