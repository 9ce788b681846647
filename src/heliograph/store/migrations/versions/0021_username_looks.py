"""What the names of accounts look like, so that no new one is taken for another."""

from heliograph.store.migrations.statements import run_script

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; the server fills it when it starts."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop it."""
    run_script(__file__, "downgrade")
