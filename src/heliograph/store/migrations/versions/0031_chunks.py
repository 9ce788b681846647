"""Chunks: measurements that are no longer hot, as columns."""

from heliograph.store.migrations.statements import run_script

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop it."""
    run_script(__file__, "downgrade")
