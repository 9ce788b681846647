"""How the pipeline does, for readiness and metrics."""

import dataclasses


@dataclasses.dataclass(slots=True)
class PipelineState:
    """Counts since the start, and what is under way. Times are microseconds."""

    depth: int = 0
    bytes_in_flight: int = 0
    messages_total: int = 0
    rows_total: int = 0
    duplicates_total: int = 0
    commits_total: int = 0
    rejected_total: dict[str, int] = dataclasses.field(default_factory=dict)
    rejected_not_kept_total: int = 0
    last_commit_at: int | None = None
    last_message_at: int | None = None
    database_available: bool = True
    clock_behind: bool = False
