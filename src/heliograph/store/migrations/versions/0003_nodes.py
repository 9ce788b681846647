"""Nodes that carry sensors, how often a sensor is expected to report, and deleted sensors."""

from heliograph.store.migrations.statements import run_script

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and the columns."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop them; deleted sensors are then deactivated ones."""
    run_script(__file__, "downgrade")
