"""The router: what happened within an answer, the user's corrected routes, and evaluations of tuned models."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_id = sa.String(32)
_json = sa.JSON().with_variant(JSONB(), "postgresql")
_time = sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Add the trace to the answers, and the two tables."""
    op.add_column("inference_payload", sa.Column("trace", _json, nullable=False, server_default="[]"))
    op.create_table(
        "exemplar",
        sa.Column("id", _id, nullable=False),
        sa.Column("inference_id", _id),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("withdrawn", sa.Boolean(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_exemplar"),
        sa.ForeignKeyConstraint(["inference_id"], ["inference.id"], "fk_exemplar_inference_id"),
    )
    op.create_index("ix_exemplar_inference_id", "exemplar", ["inference_id"])
    op.create_table(
        "evaluation",
        sa.Column("id", _id, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("pairs", sa.Integer(), nullable=False),
        sa.Column("gain", sa.Double(), nullable=False),
        sa.Column("lower", sa.Double(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_evaluation"),
    )
    op.create_index("ix_evaluation_model", "evaluation", ["model"])


def downgrade() -> None:
    """Drop both tables and the column."""
    op.drop_table("evaluation")
    op.drop_table("exemplar")
    op.drop_column("inference_payload", "trace")
