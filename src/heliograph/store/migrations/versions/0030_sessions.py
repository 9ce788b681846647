"""Sessions: when each was last used, and where it was opened."""

from heliograph.store.migrations.statements import run_script

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop them."""
    run_script(__file__, "downgrade")
