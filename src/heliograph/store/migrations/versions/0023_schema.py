"""The schema, whole.

Its number is that of the last of the steps by which it was first made: a database that has been
through all of them has this schema already. One that stopped before is told what to do by
`MigrationState`.
"""

from alembic import op

from heliograph.errors import StartError
from heliograph.store.migrations.statements import run_script

revision = "0023"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make everything."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop everything, unless something is stored.

    Raises:
        StartError: there are sensors, accounts or rejected messages.
    """
    stored = op.get_bind().exec_driver_sql(
        "SELECT 1 FROM sensor UNION ALL SELECT 1 FROM account"
        " UNION ALL SELECT 1 FROM rejected_message LIMIT 1"
    )
    if stored.first():
        raise StartError(
            "there is no revision before 0023: to go back would drop all that is stored."
            " If that is meant, drop the database itself"
        )
    run_script(__file__, "downgrade")
