"""The clock: as which time it was accepted, and how far what is due was removed."""

from heliograph.store.migrations.statements import run_script

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; what is due goes by the clock at first."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop it: rows from beyond now count again, and nothing holds up what is due."""
    run_script(__file__, "downgrade")
