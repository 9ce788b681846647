"""Accounts that are out of use, with all that was done under their names."""

from heliograph.store.migrations.statements import run_script

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Have all accounts be in use."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Have all accounts be in use again."""
    run_script(__file__, "downgrade")
