"""Connections: on which server's listener a sensor has its own."""

from heliograph.store.migrations.statements import run_script

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop it."""
    run_script(__file__, "downgrade")
