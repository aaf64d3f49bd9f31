"""Studies, pictures, readers, showings, answers, events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TIME = sa.String(32)


def _parent(table: str, name: str) -> sa.Column:
    return sa.Column(name, sa.Integer, sa.ForeignKey(f"{table}.id", ondelete="CASCADE"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "studies",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(100), nullable=False, unique=True),
        sa.Column("protocol", sa.JSON, nullable=False),
        sa.Column("password", sa.String(300), nullable=False),
        sa.Column("closes", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("opened_at", TIME),
        sa.Column("closed_at", TIME),
    )
    op.create_table(
        "pictures",
        sa.Column("id", sa.Integer, primary_key=True),
        _parent("studies", "study_id"),
        sa.Column("case_id", sa.String(64), nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("label", sa.String(16), nullable=False),
        sa.Column("tone", sa.Integer),
        sa.Column("caption", sa.Text, nullable=False),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.Column("diagnosis", sa.String(200), nullable=False),
        sa.Column("group_number", sa.Integer, nullable=False),
        sa.Column("practice", sa.Boolean, nullable=False),
        sa.UniqueConstraint("study_id", "case_id"),
    )
    op.create_table(
        "readers",
        sa.Column("id", sa.Integer, primary_key=True),
        _parent("studies", "study_id"),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("pseudonym", sa.String(16), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("consented_at", TIME),
        sa.Column("withdrawn_at", TIME),
        sa.Column("role", sa.String(40)),
        sa.Column("years", sa.Float),
        sa.Column("trained", sa.Boolean),
        sa.UniqueConstraint("study_id", "number"),
    )
    op.create_table(
        "showings",
        sa.Column("id", sa.Integer, primary_key=True),
        _parent("readers", "reader_id"),
        _parent("pictures", "picture_id"),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("repeat", sa.Boolean, nullable=False),
        sa.Column("first_shown_at", TIME),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.UniqueConstraint("reader_id", "position"),
    )
    op.create_table(
        "answers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("showing_id", sa.Integer, sa.ForeignKey("showings.id", ondelete="CASCADE"), nullable=False),
        sa.Column("first", sa.JSON, nullable=False),
        sa.Column("locked_at", TIME, nullable=False),
        sa.Column("second", sa.JSON),
        sa.Column("second_at", TIME),
        sa.UniqueConstraint("showing_id"),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True),
        _parent("studies", "study_id"),
        sa.Column("at", TIME, nullable=False),
        sa.Column("what", sa.String(40), nullable=False),
        sa.Column("detail", sa.String(300), nullable=False),
    )


def downgrade() -> None:
    for name in ("events", "answers", "showings", "readers", "pictures", "studies"):
        op.drop_table(name)
