"""Packed rows by their ids: an index by how far the ids of a chunk reach. And a view of chunks."""

from heliograph.store.migrations.statements import run_script

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make both."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Drop both."""
    run_script(__file__, "downgrade")
