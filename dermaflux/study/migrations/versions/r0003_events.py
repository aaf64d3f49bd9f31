"""Events by the name of their study, so that what was done with it outlives it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NAME = "(SELECT name FROM studies WHERE studies.id = events.study_id)"
_ID = "(SELECT id FROM studies WHERE studies.name = events.study)"


def upgrade() -> None:
    op.add_column("events", sa.Column("study", sa.String(100), nullable=False, server_default=""))
    op.execute(f"UPDATE events SET study = {_NAME}")
    with op.batch_alter_table("events") as events:
        events.drop_column("study_id")


def downgrade() -> None:
    op.add_column("events", sa.Column("study_id", sa.Integer))
    op.execute(f"UPDATE events SET study_id = {_ID}")
    op.execute("DELETE FROM events WHERE study_id IS NULL")
    with op.batch_alter_table("events") as events:
        events.alter_column("study_id", existing_type=sa.Integer, nullable=False)
        events.drop_column("study")
        events.create_foreign_key("events_study_id_fkey", "studies", ["study_id"], ["id"], ondelete="CASCADE")
