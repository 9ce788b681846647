"""Devices' keys in the form in which a broker keeps passwords."""

from heliograph.store.migrations.statements import run_script

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make room for them; of keys that were made before nobody knows that form."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop them; the keys stay."""
    run_script(__file__, "downgrade")
