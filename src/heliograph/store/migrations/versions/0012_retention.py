"""Retention: for how long a network or a sensor keeps what."""

from heliograph.store.migrations.statements import run_script

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of what networks and sensors say of it."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop them: then the settings count for all."""
    run_script(__file__, "downgrade")
