"""Configurations on their way: what is yet to be published, and who made a revision."""

from heliograph.store.migrations.statements import run_script

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of what is to be published, and mark what was not until now."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop it; the configurations stay."""
    run_script(__file__, "downgrade")
