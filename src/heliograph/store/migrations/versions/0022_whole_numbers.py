"""Views whose texts of numbers have all digits, on SQLite as on PostgreSQL."""

from heliograph.store.migrations.statements import run_script

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Have SQLite's views take them from what is stored."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Have them cut off behind the fifteenth digit."""
    run_script(__file__, "downgrade")
