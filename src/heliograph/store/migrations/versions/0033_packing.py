"""Who is packed: sensors and networks that do not refuse it, and databases by themselves or not."""

from heliograph.store.migrations.statements import run_script

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the columns and the table."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop them."""
    run_script(__file__, "downgrade")
