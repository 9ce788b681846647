"""Annotations: what people know of a time, beside what a sensor measured then."""

from heliograph.store.migrations.statements import run_script

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop it."""
    run_script(__file__, "downgrade")
