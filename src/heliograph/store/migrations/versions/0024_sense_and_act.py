"""Packets, rules and what follows from them; tags, places and the labels of attributes."""

from alembic import op

from heliograph.errors import StartError
from heliograph.store.migrations.statements import run_script

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and columns."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop them, unless something is stored that nothing else has.

    Raises:
        StartError: there are packets, rules or channels.
    """
    stored = op.get_bind().exec_driver_sql(
        "SELECT 1 FROM packet UNION ALL SELECT 1 FROM rule UNION ALL SELECT 1 FROM channel LIMIT 1"
    )
    if stored.first():
        raise StartError("revision 0023 has no packets, rules and channels: delete them first")
    run_script(__file__, "downgrade")
