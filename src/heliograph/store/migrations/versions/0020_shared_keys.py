"""Shared keys: in which networks they send and read."""

from heliograph.store.migrations.statements import run_script

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Have them do so in the network `default` alone."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop the column."""
    run_script(__file__, "downgrade")
