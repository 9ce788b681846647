"""Rollups of measurements by minute and hour, and what tells which of them hold."""

from heliograph.store.migrations.statements import run_script

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables; what is stored already is to be rolled up."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop them."""
    run_script(__file__, "downgrade")
