"""Read-only views for dashboards and notebooks."""

from heliograph.store.migrations.statements import run_script

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the views."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop them."""
    run_script(__file__, "downgrade")
