"""Views whose times before 1970 are right to the microsecond, on SQLite as on PostgreSQL."""

from heliograph.store.migrations.statements import run_script

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Have SQLite's views take whole seconds below the time."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Have them take whole seconds nearer to 1970."""
    run_script(__file__, "downgrade")
