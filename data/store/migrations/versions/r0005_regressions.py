"""Corrections as regression tests: a table that names them, and the corrections that stand already."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_STANDING = """
INSERT INTO regression (feedback_id, domain)
SELECT feedback.id, CASE WHEN inference.domain = '' THEN conversation.domain ELSE inference.domain END
FROM feedback
JOIN inference ON inference.id = feedback.inference_id
JOIN turn ON turn.id = inference.turn_id
JOIN conversation ON conversation.id = turn.conversation_id
WHERE feedback.kind = 'correction' AND feedback.source IN ('user', 'import') AND NOT feedback.withdrawn
  AND NOT conversation.incognito
  AND NOT EXISTS (SELECT 1 FROM feedback AS newer WHERE newer.supersedes_id = feedback.id)
"""


def upgrade() -> None:
    """Make the table and fill it."""
    op.create_table(
        "regression",
        sa.Column("feedback_id", sa.String(32), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("feedback_id", name="pk_regression"),
        sa.ForeignKeyConstraint(["feedback_id"], ["feedback.id"], "fk_regression_feedback_id", ondelete="CASCADE"),
    )
    op.create_index("ix_regression_domain", "regression", ["domain"])
    op.execute(_STANDING)


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("regression")
