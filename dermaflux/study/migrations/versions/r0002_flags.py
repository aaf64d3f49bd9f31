"""Pictures that are to be left out of synthesis, and the file that a synthetic one came from, by its hash."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("pictures", sa.Column("origin", sa.String(64), nullable=False, server_default=""))
    op.create_table(
        "flags",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("picture_id", sa.Integer, sa.ForeignKey("pictures.id", ondelete="CASCADE"), nullable=False),
        sa.Column("reader_id", sa.Integer, sa.ForeignKey("readers.id", ondelete="CASCADE")),
        sa.Column("at", sa.String(32), nullable=False),
        sa.UniqueConstraint("picture_id", "reader_id"),
    )


def downgrade() -> None:
    op.drop_table("flags")
    op.drop_column("pictures", "origin")
