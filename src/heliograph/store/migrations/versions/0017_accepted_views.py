"""Views that leave out what was stored while the clock was ahead, as newest values do."""

from heliograph.store.migrations.statements import run_script

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Have newest values and "last seen" wait until their time has come."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Show them whatever the time."""
    run_script(__file__, "downgrade")
