"""What a benchmark found, how rounds alternate, and how results are shown."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from rich.console import Console
from rich.table import Table


@dataclasses.dataclass(frozen=True)
class Goal:
    """What has to hold: of the ratio, or of the figure itself."""

    value: float
    of: Literal["ratio", "figure"] = "ratio"
    sense: Literal["at least", "at most"] = "at least"

    def met(self, figure: float, ratio: float | None) -> bool:
        """Return whether the goal is reached; a ratio that is not known reaches none."""
        found = figure if self.of == "figure" else ratio
        if found is None:
            return False
        return found >= self.value if self.sense == "at least" else found <= self.value

    def text(self, unit: str) -> str:
        """Return the goal as the table shows it."""
        sign = "≥" if self.sense == "at least" else "≤"
        return f"{sign} {self.value:g} {unit if self.of == 'figure' else 'of the ceiling'}"


@dataclasses.dataclass(frozen=True)
class Sample:
    """One round of one side; `cpu_seconds_per_100k` is of the serving process."""

    value: float
    cpu_seconds_per_100k: float | None = None
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def rate(cls, rows: float, found: Mapping[str, Any], spent: float, /, **extra: Any) -> "Sample":
        """Return the rate of so many rows (messages, requests) over the seconds that were found.

        `spent` are the CPU seconds that all of them took.
        """
        return cls(rows / found["seconds"], spent / rows * 100_000, extra)


@dataclasses.dataclass(frozen=True)
class Result:
    """The samples of both sides under one name; a target has only one, and not all have a goal.

    `parts`: by name the numbers of what the figure is the worst of.
    """

    name: str
    unit: str
    goal: Goal | None
    figures: Sequence[Sample]
    ceilings: Sequence[Sample] = ()
    parts: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    @property
    def figure(self) -> float:
        """The median of the server's rounds."""
        return statistics.median(sample.value for sample in self.figures)

    @property
    def ceiling(self) -> float | None:
        """The median of the bare path's rounds, if it has one."""
        values = [sample.value for sample in self.ceilings]
        return statistics.median(values) if values else None

    @property
    def ratio(self) -> float | None:
        """The figure as a multiple of the ceiling."""
        return self.figure / self.ceiling if self.ceiling else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached, if there is one."""
        return None if self.goal is None else self.goal.met(self.figure, self.ratio)

    def document(self) -> dict[str, Any]:
        """Return the members of the JSON object under the benchmark's name."""
        return {
            "figure": significant(self.figure),
            "ceiling": significant(self.ceiling),
            "ratio": significant(self.ratio),
            "unit": self.unit,
            "goal": self.goal and self.goal.value,
            "goal_of": self.goal and self.goal.of,
            "goal_sense": self.goal and self.goal.sense,
            "met": self.met,
            "cpu_seconds_per_100k": {
                "figure": significant(cpu_seconds(self.figures)),
                "ceiling": significant(cpu_seconds(self.ceilings)),
            },
            "rounds": {
                "figure": [significant(sample.value) for sample in self.figures],
                "ceiling": [significant(sample.value) for sample in self.ceilings],
            },
            **medians("", self.figures),
            **medians("ceiling_", self.ceilings),
            **({"parts": self._significant_parts()} if self.parts else {}),
        }

    def _significant_parts(self) -> dict[str, dict[str, float | None]]:
        return {
            name: {member: significant(number) for member, number in numbers.items()}
            for name, numbers in self.parts.items()
        }


def alternate(
    rounds: int, figure: Callable[[], Sample], ceiling: Callable[[], Sample]
) -> tuple[list[Sample], list[Sample]]:
    """Return the samples of both sides; every other round begins with the other side.

    A slower minute of the machine meets both.
    """
    figures: list[Sample] = []
    ceilings: list[Sample] = []
    for number in range(rounds):
        pair = [(figures, figure), (ceilings, ceiling)]
        for samples, measure in reversed(pair) if number % 2 else pair:
            samples.append(measure())
    return figures, ceilings


def percentile(ordered: list[float], share: float) -> float:
    """Return the smallest sample that at least this share of the samples does not exceed."""
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]


def cpu_seconds(samples: Iterable[Sample]) -> float | None:
    """Return the median of the CPU seconds that are known."""
    known = [s.cpu_seconds_per_100k for s in samples if s.cpu_seconds_per_100k is not None]
    return statistics.median(known) if known else None


def medians(prefix: str, samples: Sequence[Sample]) -> dict[str, float | None]:
    """Return the median of each extra number that every sample carries."""
    if not samples:
        return {}
    names = [n for n in samples[0].extra if all(n in sample.extra for sample in samples)]
    return {
        prefix + name: significant(statistics.median(s.extra[name] for s in samples))
        for name in names
    }


def significant(number: float | None) -> float | None:
    """Return the number with four significant digits, and all digits before the point."""
    if number is None:
        return None
    return float(round(number)) if abs(number) >= 1_000 else float(f"{number:.4g}")


def show(results: Iterable[Result]) -> None:
    """Print the results as people read them."""
    results = list(results)
    table = Table(title="Heliograph and the bare path (or the peer), medians of the rounds")
    for name in (
        "name",
        "figure",
        "ceiling",
        "ratio",
        "unit",
        "goal",
        "",
        "CPU s/100,000",
        "ceiling's",
    ):
        is_number = name in ("figure", "ceiling", "ratio", "CPU s/100,000", "ceiling's")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    for result in results:
        table.add_row(
            result.name,
            _number(result.figure),
            _number(result.ceiling),
            "" if result.ratio is None else f"{result.ratio:.2f}",
            result.unit,
            "" if result.goal is None else result.goal.text(result.unit),
            {None: "", True: "[green]pass[/]", False: "[red]miss[/]"}[result.met],
            _number(cpu_seconds(result.figures)),
            _number(cpu_seconds(result.ceilings)),
        )
    console = Console(width=150)
    console.print(table)
    for result in results:
        if result.parts:
            console.print(_parts(result))


def _parts(result: Result) -> Table:
    """Return the table of a result's parts, the worst first."""
    table = Table(title=f"{result.name}, {result.unit}")
    table.add_column("name")
    members = list(next(iter(result.parts.values())))
    for member in members:
        table.add_column(member, justify="right")
    for name, numbers in sorted(result.parts.items(), key=lambda part: -part[1]["p95"]):
        table.add_row(name, *(_number(numbers[member]) for member in members))
    return table


def _number(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if abs(number) >= 1_000 else f"{number:.3g}"
