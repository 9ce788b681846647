"""The chart of a dry run, as SVG text: the numbers, the bounds, and when the rule was raised.

It is made of plain text, follows the reader's choice of a light or dark page, and contains nothing
that runs or is loaded.
"""

import math
import sys
from datetime import UTC, datetime, timedelta
from html import escape

from heliograph.model.time import DAY, HOUR, MINUTE, SECOND
from heliograph.processing.dry_run import DryRun

WIDTH = 900
HEIGHT = 320
# Around what is drawn: for a title, the axes, and what the lines of the bounds say.
LEFT, RIGHT, TOP, BOTTOM = 64, 96, 44, 34
# Between the lowest points of two lines of text.
_LINE_OF_TEXT = 13

_STYLE = """
svg { background: #fff; color: #1c2330; font: 12px system-ui, sans-serif; }
text { fill: currentColor; } .title { font-size: 14px; font-weight: 600; }
.quiet { opacity: .75; } .end { text-anchor: end; } .middle { text-anchor: middle; }
.grid { stroke: currentColor; stroke-opacity: .14; }
.axis { stroke: currentColor; stroke-opacity: .5; }
.raised { fill: #d92d20; fill-opacity: .16; } .edge { stroke: #d92d20; stroke-opacity: .7; }
.bound { stroke: #b42318; stroke-width: 1.5; stroke-dasharray: 6 4; }
.clear { stroke: #067647; stroke-width: 1.5; stroke-dasharray: 2 4; }
.line { fill: none; stroke: #1d5fd1; stroke-width: 1.5; }
.line { stroke-linejoin: round; stroke-linecap: round; }
.bound-text { fill: #b42318; } .clear-text { fill: #067647; }
@media (prefers-color-scheme: dark) {
svg { background: #11161f; color: #e6e9ef; }
.line { stroke: #7fb0ff; } .bound { stroke: #ff8a80; } .clear { stroke: #5fd39a; }
.raised { fill: #ff6b5e; fill-opacity: .24; } .edge { stroke: #ff6b5e; }
.bound-text { fill: #ff8a80; } .clear-text { fill: #5fd39a; }
}
""".strip().replace("\n", " ")

_TIME_STEPS = (
    *(SECOND * each for each in (1, 2, 5, 10, 15, 30)),
    *(MINUTE * each for each in (1, 2, 5, 10, 15, 30)),
    *(HOUR * each for each in (1, 2, 3, 6, 12)),
    *(DAY * each for each in (1, 2, 7, 14, 28, 56, 91, 182, 364)),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_TICKS_OF_TIME = 8
_MOST_TICKS_OF_NUMBERS = 6


def chart(run: DryRun, title: str) -> str:
    """Return the SVG document; times are in UTC."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    low, high = _number_range(run)

    def x_of(at: int) -> float:
        share = (at - run.start) / max(1, run.end - run.start)
        return round(LEFT + min(1.0, max(0.0, share)) * (right - LEFT), 1)

    def y_of(number: float) -> float:
        # Halves, since the difference of two finite numbers may not be finite.
        share = (number / 2 - low / 2) / (high / 2 - low / 2)
        return round(bottom - share * (bottom - TOP), 1)

    summary = f"raises {run.raises}, raised for {duration(run.raised_for)}"
    times = " to ".join(
        f"{_EPOCH + timedelta(microseconds=at):%Y-%m-%d %H:%M}" for at in (run.start, run.end)
    )
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{_text(f'{title}: {summary}')}</title>",
        f"<style>{_STYLE}</style>",
        _label("title", LEFT, 20, _text(title, 70)),
        _label("quiet", LEFT, 36, _text(f"{run.attribute or ''} · {times} UTC".lstrip(" ·"))),
        _label("quiet end", right, 20, summary),
        _label("quiet end", right, 36, f"without durations and hysteresis: {run.naive_raises}"),
    ]
    for span in run.spans:
        x, end = x_of(span.raised_at), x_of(run.end if span.cleared_at is None else span.cleared_at)
        drawn.append(
            f'<rect class="raised" x="{x}" y="{TOP}" width="{max(1.0, end - x):.1f}" '
            f'height="{bottom - TOP}"/>{_line("edge", x, TOP, x, bottom)}'
        )
    if run.columns:
        step, numbers = number_ticks(low, high)
        for number in numbers:
            y = y_of(number)
            drawn += (
                _line("grid", LEFT, y, right, y),
                _label("quiet end", LEFT - 8, y + 4, _number(number, step)),
            )
    for at, label in time_ticks(run.start, run.end):
        x = x_of(at)
        drawn += (
            _line("axis", x, bottom, x, bottom + 5),
            _label("quiet middle", x, bottom + 19, label),
        )
    drawn.append(_line("axis", LEFT, bottom, right, bottom))
    if run.columns:
        points = " ".join(
            f"{x_of(at)},{y_of(number)}"
            for at, lowest, highest in run.columns
            for number in (lowest, highest)
        )
        drawn.append(f'<polyline class="line" points="{points}"/>')
        labels = [("bound", y_of(bound), f"{bound:g}") for bound in run.bounds]
        labels += [("clear", y_of(bound), f"clears at {bound:g}") for bound in run.clear_bounds]
        below = 0.0
        for name, y, label in sorted(labels, key=lambda each: each[1]):
            # Bounds may be closer to one another than what is written beside them.
            below = max(y + 4, below + _LINE_OF_TEXT)
            drawn += (
                _line(name, LEFT, y, right, y),
                _label(f"{name}-text", right + 6, below, label),
            )
    else:
        middle = (LEFT + right) / 2, (TOP + bottom) / 2
        drawn.append(_label("quiet middle", *middle, "no numbers in this time"))
    return "\n".join([*drawn, "</svg>"]) + "\n"


def number_ticks(low: float, high: float) -> tuple[float, list[float]]:
    """Return the step, which is 1, 2 or 5 times a power of ten, and its multiples in the range."""
    rough = (high / _MOST_TICKS_OF_NUMBERS) - (low / _MOST_TICKS_OF_NUMBERS)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((f * power for f in (1, 2, 5) if f * power >= rough), 10 * power)
    first, last = math.ceil(low / step), math.floor(high / step)
    return step, [index * step for index in range(first, last + 1)]


def time_ticks(begin: int, end: int) -> list[tuple[int, str]]:
    """Return times (microseconds) with their labels, at full seconds, minutes, hours or days."""
    wanted = max(SECOND, (end - begin) // _MOST_TICKS_OF_TIME)
    step = next((each for each in _TIME_STEPS if each >= wanted), None)
    if step is None:
        step = -(-wanted // (364 * DAY)) * 364 * DAY
    form = "%H:%M:%S" if step < MINUTE else "%H:%M" if step < DAY else "%-d %b"
    if end - begin > 360 * DAY:
        form = "%b %Y"
    first = -(-begin // step) * step
    found = []
    for at in range(first, end + 1, step):
        time = _EPOCH + timedelta(microseconds=at)
        # Where hours go on into the next day, that day is shown.
        is_midnight = form == "%H:%M" and at % DAY == 0
        found.append((at, time.strftime("%-d %b" if is_midnight else form)))
    return found


def duration(microseconds: int) -> str:
    """Return a duration in its two largest units."""
    left = round(microseconds / SECOND)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _number_range(run: DryRun) -> tuple[float, float]:
    """Return the lowest and highest number of what is drawn, with some room around."""
    numbers = [number for _, *both in run.columns for number in both]
    numbers += run.bounds + run.clear_bounds
    if not numbers:
        return 0.0, 1.0
    low, high = float(min(numbers)), float(max(numbers))
    # As far as floats can tell: bounds of equal numbers would leave no height.
    room = max((high / 2 - low / 2) * 0.12, abs(high) * 1e-6, abs(low) * 1e-6, 1e-300)
    furthest = sys.float_info.max
    return max(low - room, -furthest), min(high + room, furthest)


def _number(number: float, step: float) -> str:
    if not 1e-4 <= step <= 1e6:
        return f"{number:.6g}"
    return f"{number:.{max(0, -math.floor(math.log10(step)))}f}"


def _line(name: str, x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line class="{name}" x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}"/>'


def _label(name: str, x: float, y: float, text: str) -> str:
    return f'<text class="{name}" x="{x:g}" y="{y:g}">{text}</text>'


def _text(text: str, longest: int = 200) -> str:
    """Return text that is nothing but text in XML, which knows no control characters."""
    kept = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return escape(kept if len(kept) <= longest else kept[: longest - 1] + "…")
