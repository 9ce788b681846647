"""First light: the registry, telemetry, what was rejected, and the ledger of deliveries."""

from heliograph.store.migrations.statements import run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop them, with everything in them."""
    run_script(__file__, "downgrade")
