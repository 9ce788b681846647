"""${message}."""

from heliograph.store.migrations.statements import run_script

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """${message}."""
    run_script(__file__, "upgrade")


def downgrade() -> None:
    """Undo it."""
    run_script(__file__, "downgrade")
