"""Sessions of MQTT clients, which any server may go on with."""

from heliograph.store.migrations.statements import run_script

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop them."""
    run_script(__file__, "downgrade")
