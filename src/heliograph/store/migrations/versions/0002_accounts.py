"""Accounts: users, their sessions, and their roles in networks."""

from heliograph.store.migrations.statements import run_script

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop them, with everybody's accounts."""
    run_script(__file__, "downgrade")
