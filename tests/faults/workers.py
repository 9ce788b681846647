"""Several workers of one server: which of them has a connection, or a duty."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from faults.database import PostgresqlDatabase
from faults.process import START_SECONDS, ServerProcess, condition

# Duties are looked for, and done, all the time, and a worker that has ended is back at once.
BRIEF = """
from heliograph.cli import workers
from heliograph.cli.main import run
from heliograph.retention import runs
from heliograph.rollups import task
from heliograph.store import duties
workers.FIRST_RESTART_SECONDS = 0.1
runs.INTERVAL_SECONDS = 0.2
task.POLL_SECONDS = 0.2
duties.LOOK_SECONDS = 0.2
run()
"""
# Who has written what a duty writes: the connection, and what the duty's row says meanwhile.
# Retention has the rollups under way discarded, by their generation alone: that is no rollup, and
# another server may have that duty.
AUDIT = """
CREATE TABLE wrote (
    number bigint GENERATED ALWAYS AS IDENTITY, duty text, port int, holder text, fence bigint
);
CREATE FUNCTION note_writer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO wrote (duty, port, holder, fence)
    SELECT name, inet_client_port(), holder, fence FROM duty WHERE name = TG_ARGV[0];
    RETURN NULL;
END $$;
CREATE TRIGGER note_rollups AFTER UPDATE OF frontier ON rollup_state
FOR EACH STATEMENT EXECUTE FUNCTION note_writer('rollups');
CREATE TRIGGER note_rows AFTER INSERT OR UPDATE ON rollup
FOR EACH STATEMENT EXECUTE FUNCTION note_writer('rollups');
CREATE TRIGGER note_retention AFTER DELETE ON measurement
FOR EACH STATEMENT EXECUTE FUNCTION note_writer('retention');
CREATE TRIGGER note_horizon AFTER UPDATE OF horizon ON clock_state
FOR EACH STATEMENT EXECUTE FUNCTION note_writer('retention');
"""


class Workers(ServerProcess):
    """`heliograph serve --workers` over PostgreSQL."""

    def __init__(
        self, folder: Path, database: PostgresqlDatabase, count: int, **variables: str
    ) -> None:
        (folder / "brief.py").write_text(BRIEF)
        super().__init__(folder, database.url, module="brief", **{"LOG_LEVEL": "info", **variables})
        self.database = database
        self.count = count
        self.arguments = ("serve", "--workers", str(count))

    async def start(self) -> None:
        """Start it, and wait until all serve."""
        await super().start()
        await condition(lambda: "server started" in self.said, START_SECONDS, "all workers serving")

    def workers(self) -> list[int]:
        """Return the workers' processes."""
        parent = self.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        return [int(each) for each in children.split()]

    def by_socket(self, *, peer: int | None = None, port: int | None = None) -> dict[int, int]:
        """Return by whom sockets are held, by the other port of their connection.

        Either those connected to a `peer`'s port, by their own port, or those that were accepted at
        a `port` of the server, by their client's.
        """
        inodes = {}
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            own, other = (int(fields[at].partition(":")[2], 16) for at in (1, 2))
            if other == peer:
                inodes[fields[9]] = own
            elif own == port and other:
                inodes[fields[9]] = other
        held = {}
        for worker in self.workers():
            for inode in _sockets(worker):
                if inode in inodes:
                    held[inodes[inode]] = worker
        return held

    def holder(self, duty: str) -> int | None:
        """Return the worker that has a duty; None: none that lives."""
        ports = self.database.column(
            "SELECT activity.client_port FROM duty"
            " JOIN instance ON instance.token = duty.holder"
            " JOIN pg_stat_activity AS activity ON activity.pid = instance.backend"
            f" WHERE duty.name = '{duty}'"
        )
        return self.by_socket(peer=self.database.cluster.port).get(int(ports[0])) if ports else None


def _sockets(process: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(file.readlink())
                if target.startswith("socket:["):
                    yield target[8:-1]
