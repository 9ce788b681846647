"""On SQLite the keys of measurements are a table of their own, by which packing takes rows away."""

from alembic import op

from heliograph.store.migrations.statements import run_script

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make a table of the unique index, and a view of both."""
    _run("upgrade")


def downgrade() -> None:
    """Make one table of both again."""
    _run("downgrade")


def _run(direction: str) -> None:
    # PostgreSQL has an index, and finds by itself what of a table has no row any more.
    if op.get_bind().dialect.name == "sqlite":
        run_script(__file__, "upgrade" if direction == "upgrade" else "downgrade")
