"""Broker drops: how many messages the broker had dropped when that was last heard."""

from heliograph.store.migrations.statements import run_script

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop it: then what a broker drops while no server is there goes unnoticed."""
    run_script(__file__, "downgrade")
