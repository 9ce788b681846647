"""The registry's changes: by their random tokens a database that was put back is known."""

from heliograph.store.migrations.statements import run_script

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of changes, and check it before telemetry is stored."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop it."""
    run_script(__file__, "downgrade")
