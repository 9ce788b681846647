"""Rounds of both sides, alternating, so that a slower minute of the machine meets both."""

from collections.abc import Callable

from bench.result import Sample


def alternate(
    rounds: int, figure: Callable[[], Sample], ceiling: Callable[[], Sample]
) -> tuple[list[Sample], list[Sample]]:
    """Return the samples of both sides; every other round begins with the other side."""
    figures: list[Sample] = []
    ceilings: list[Sample] = []
    for number in range(rounds):
        pair = [(figures, figure), (ceilings, ceiling)]
        for samples, measure in reversed(pair) if number % 2 else pair:
            samples.append(measure())
    return figures, ceilings


def percentile(ordered: list[float], share: float) -> float:
    """Return the smallest sample that at least this share of the samples does not exceed."""
    index = max(0, -int(-len(ordered) * share // 1) - 1)
    return ordered[index]
