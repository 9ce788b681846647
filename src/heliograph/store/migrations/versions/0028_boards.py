"""Boards: what people have chosen to see of a network on one page."""

from heliograph.store.migrations.statements import run_script

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop it."""
    run_script(__file__, "downgrade")
