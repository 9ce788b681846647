"""What is stored of rollups in one transaction."""

import dataclasses

# The lower bits of a generation count disturbances, the upper ones changes of rollups.
DISTURBANCES = 24


def changes(generation: int) -> int:
    """Return how many changes of rollups there were."""
    return generation >> DISTURBANCES


def following(generation: int) -> int:
    """Return the generation after a change."""
    return changes(generation) + 1 << DISTURBANCES


@dataclasses.dataclass(slots=True)
class RollupChange:
    """Nothing of it is stored unless the rollups' generation is still the one given.

    It is raised by that: whatever was read before, of raw rows or rollups, may be out of date.
    """

    generation: int
    # Sensor, level, start, packed; None: deleted.
    rollups: list[tuple[int, int, int, bytes | None]] = dataclasses.field(default_factory=list)
    # Ids of marks that are done.
    marks: list[int] = dataclasses.field(default_factory=list)
    # Sensor, start, and what the end is now.
    backlog: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
    # Where the frontier is moved to.
    frontier: int | None = None
