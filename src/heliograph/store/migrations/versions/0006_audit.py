"""The audit log: who did what to which resource, when."""

from heliograph.store.migrations.statements import run_script

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of entries; of what was done before nothing is known."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop it with all entries."""
    run_script(__file__, "downgrade")
