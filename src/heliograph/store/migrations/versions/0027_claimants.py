"""Claimants: which server has claimed an action."""

from heliograph.store.migrations.statements import run_script

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the column."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop it."""
    run_script(__file__, "downgrade")
