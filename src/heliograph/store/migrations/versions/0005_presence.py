"""Presence: which sensors are connected, and by what."""

from heliograph.store.migrations.statements import run_script

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add when a sensor was connected to the listener, and where its status came from."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop both; the statuses stay."""
    run_script(__file__, "downgrade")
