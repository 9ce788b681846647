"""Dry runs and their charts."""

import runpy
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heliograph.model.time import DAY, HOUR, MINUTE, SECOND
from heliograph.processing.chart import HEIGHT, WIDTH, chart, duration, number_ticks, time_ticks
from heliograph.processing.dry_run import COLUMNS, MOST_SPANS, DryRun, dry_run
from heliograph.processing.rules import CompiledRule, parse
from heliograph.processing.state import Observation

HOT = {"attribute": "t", "above": 30, "clear_below": 28}
ROOT = Path(__file__).parents[3]
START = 1_800_000_000 * SECOND


def tried(
    values: list[tuple[float, Any]],
    condition: dict[str, Any] = HOT,
    until: float = 100,
    **members: Any,
) -> DryRun:
    rule = CompiledRule(parse({"name": "hot", "condition": condition, **members}))
    messages = (
        # Imported a year later.
        Observation(START + round(at * SECOND), 0, START + 365 * DAY, {"t": value})
        for at, value in values
    )
    return dry_run(rule, messages, START, START + round(until * SECOND))


def spans(run: DryRun) -> list[tuple[float, float | None]]:
    def after(at: int) -> float:
        return (at - START) / SECOND

    return [
        (after(each.raised_at), None if each.cleared_at is None else after(each.cleared_at))
        for each in run.spans
    ]


def test_it_says_when_how_often_and_for_how_long() -> None:
    values = [(0, 20), (10, 31), (20, 29), (30, 31), (40, 20), (50, "x"), (60, 33), (70, 35)]
    run = tried(values)
    assert spans(run) == [(10, 40), (60, None)]
    assert (run.raises, run.raised_for, run.naive_raises) == (2, 70 * SECOND, 3)
    assert (run.messages, run.absent, run.failed) == (8, 1, 0)
    assert (run.attribute, run.bounds, run.clear_bounds) == ("t", [30], [28])
    run = tried(values, **{"for": 40})
    assert (spans(run), run.raises, run.naive_raises) == ([(100, None)], 1, 3)
    outside = tried(
        values, {"all": [{"attribute": "u", "change": 1}, {"attribute": "t", "outside": [0, 30]}]}
    )
    assert (outside.attribute, outside.bounds, outside.clear_bounds) == ("t", [0, 30], [])
    assert tried([], {"any": [{"cel": "value > 3"}]}).attribute is None
    assert tried(values, {"cel": "value.t > 30"}).failed == 1


def test_silences_are_found_without_a_clock() -> None:
    run = tried([(10, 1), (20, 1), (60, 1), (70, 1)], {"no_data": 30})
    assert (spans(run), run.raises) == ([(50, 60), (100, None)], 2)


def test_nobody_is_silent_before_it_is_there() -> None:
    def silences(registered: int, *messages: int) -> list[tuple[float, float | None]]:
        rule = CompiledRule(parse({"name": "quiet", "condition": {"no_data": 30}}))
        sent = [Observation(START + at * SECOND, 0, START + at * SECOND, 1) for at in messages]
        since = START + registered * SECOND
        return spans(dry_run(rule, sent, START, START + 100 * SECOND, registered=since))

    assert silences(-50) == [(30, None)]
    assert silences(60) == [(90, None)]
    assert silences(60, 65) == [(95, None)]
    assert silences(200) == []
    # Of one that was registered after it had sent there is what was imported.
    assert silences(60, 10, 65) == [(40, 65), (95, None)]


def test_a_long_history_takes_no_more_memory_than_a_short_one() -> None:
    run = tried([(at, 31 if at % 2 == 0 else 20) for at in range(5_000)], until=5_000)
    assert (len(run.spans), run.raises, run.raised_for) == (MOST_SPANS, 2_500, 2_500 * SECOND)
    assert len(run.columns) == COLUMNS
    assert {each[1:] for each in run.columns} == {(20, 31)}


def parsed(run: DryRun, title: str = "hot") -> list[ET.Element]:
    root = ET.fromstring(chart(run, title))  # noqa: S314 - ours
    assert (root.get("width"), root.get("height")) == (str(WIDTH), str(HEIGHT))
    return list(root)


def test_the_chart_shades_what_was_raised_and_draws_bounds() -> None:
    elements = parsed(tried([(0, 20), (25, 31), (50, 20), (75, 31)]))
    shaded = [each for each in elements if each.get("class") == "raised"]
    left, width = 64, WIDTH - 64 - 96
    assert [(each.get("x"), each.get("width")) for each in shaded] == [
        (str(left + width / 4), f"{width / 4:.1f}"),
        (str(left + width * 3 / 4), f"{width / 4:.1f}"),
    ]
    texts = [each.text or "" for each in elements]
    assert {"30", "clears at 28", "08:00:00", "raises 2, raised for 50 s"} <= set(texts)
    assert "t · 2027-01-15 08:00 to 2027-01-15 08:01 UTC" in texts
    assert any("prefers-color-scheme: dark" in text for text in texts)


def test_strangers_names_stay_texts_in_the_chart() -> None:
    name = "</title><script>alert(1)</script>&\x1b\ud800"
    document = chart(tried([]), name)
    assert "<script" not in document
    texts = [each.text or "" for each in parsed(tried([]), name)]
    assert (
        "</title><script>alert(1)</script>&\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
        in texts
    )
    assert "no numbers in this time" in texts


@example([(0, sys.float_info.max)], sys.float_info.max)
@example([(0, -sys.float_info.max), (1, sys.float_info.max)], 0)
@given(
    st.lists(
        st.tuples(st.integers(0, 100), st.floats(allow_nan=False, allow_infinity=False)), max_size=5
    ),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_numbers_can_be_drawn(values: list[tuple[int, float]], bound: float) -> None:
    run = tried(sorted(values), {"attribute": "t", "above": bound})
    for element in parsed(run):
        for name in ("x", "y", "x1", "y1", "x2", "y2"):
            assert 0 <= float(element.get(name, "0")) <= WIDTH


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_the_ticks_of_numbers_are_round_and_few(low: float, width: float) -> None:
    step, ticks = number_ticks(low, low + width)
    assert f"{step:e}"[0] in "125"
    assert 1 <= len(ticks) <= 8 or low + width == low


@pytest.mark.parametrize(
    ("span", "labels"),
    [
        (10 * SECOND, ["08:00:00", "08:00:02"]),
        (HOUR, ["08:00", "08:10"]),
        (DAY, ["09:00", "12:00"]),
        (3 * DAY, ["12:00", "16 Jan"]),
        (30 * DAY, ["21 Jan", "28 Jan"]),
        (3_650 * DAY, ["Oct 2027", "Oct 2029"]),
    ],
)
def test_the_ticks_of_time_are_where_clocks_and_calendars_have_them(
    span: int, labels: list[str]
) -> None:
    ticks = time_ticks(START, START + span)
    assert [label for _, label in ticks][:2] == labels
    assert 4 <= len(ticks) <= 9


def test_durations_are_told_in_two_units() -> None:
    told = {0: "0 s", 59 * SECOND: "59 s", 61 * MINUTE: "1 h 1 min", 3 * DAY + HOUR: "3 d 1 h"}
    assert {each: duration(each) for each in told} == told


def test_a_noisy_signal_is_told_apart_from_the_naive_rule_as_the_guide_shows() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "noisy_signal.py"))
    run = script["run"]()
    assert run.raises == 1
    assert run.naive_raises > 36
    # The script draws it anew.
    assert (ROOT / "docs" / "guide" / "noisy-signal.svg").read_text("utf-8") == script["drawn"]()
