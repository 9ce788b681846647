"""The ids that devices give their elements."""

from heliograph.store.migrations.statements import run_script

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the columns, and show them in the views."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop them: what is told apart by them alone stays two rows."""
    run_script(__file__, "downgrade")
