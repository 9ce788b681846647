"""How the pipeline does, for readiness and metrics."""

import dataclasses

from heliograph.model.histogram import Durations
from heliograph.model.identifiers import INGEST_ID_STEP, first_ingest_id


@dataclasses.dataclass(slots=True)
class PipelineState:
    """Counts since the start, and what is under way. Times are microseconds."""

    depth: int = 0
    bytes_in_flight: int = 0
    messages_total: int = 0
    rows_total: int = 0
    bytes_total: int = 0
    duplicates_total: int = 0
    # Stored, although a damaged chunk may have them.
    possible_repeats_total: int = 0
    retimed_total: int = 0
    commits_total: int = 0
    # How long transactions took, and how long the first message of each had waited when it was
    # safe: no other message of it had waited longer.
    commits: Durations = dataclasses.field(default_factory=Durations)
    waits: Durations = dataclasses.field(default_factory=Durations)
    rejected_total: dict[str, int] = dataclasses.field(default_factory=dict)
    # How many messages of each sensor, since that was taken last.
    rejected_of: dict[int, int] = dataclasses.field(default_factory=dict)
    # Not stored and not acknowledged, because the database was put back meanwhile.
    dropped_total: int = 0
    rejected_not_kept_total: int = 0
    # What has a smaller ingest id, of this process, is committed or never will be.
    newest_id: int = 0
    last_commit_at: int | None = None
    last_message_at: int | None = None
    database_available: bool = True
    clock_behind: bool = False

    def take_rejected(self) -> dict[int, int]:
        """Return how many messages of each sensor were rejected since the last call."""
        taken, self.rejected_of = self.rejected_of, {}
        return taken

    def resume_id(self, moment: int, instance: int) -> int:
        """Return an id of the instance up to which all of it is committed, or never will be.

        While nothing is under way that is any before those of this moment (microseconds): else a
        quiet server's viewers would come back with an id that is too old to resume from.
        """
        if self.depth:
            return self.newest_id
        return max(self.newest_id, first_ingest_id(moment) - INGEST_ID_STEP + instance)
