"""The log: conversations, turns, answers, feedback, and the full-text index over them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_id = sa.String(32)
_json = sa.JSON().with_variant(JSONB(), "postgresql")
_time = sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql")
_row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table, then the index of the database at hand."""
    _conversations()
    _answers()
    _feedback()
    _search()


def downgrade() -> None:
    """Drop everything."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE search_index")
    else:
        op.drop_constraint("fk_conversation_active_leaf_id", "conversation")
    for table in (
        "search_document",
        "preference",
        "feedback",
        "inference_payload",
        "inference",
        "config_snapshot",
        "turn",
        "conversation",
    ):
        op.drop_table(table)


def _conversations() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    leaf = sa.ForeignKeyConstraint(["active_leaf_id"], ["turn.id"], "fk_conversation_active_leaf_id", ondelete="SET NULL")
    op.create_table(
        "conversation",
        sa.Column("id", _id, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("system_prompt", sa.Text(), nullable=False),
        sa.Column("incognito", sa.Boolean(), nullable=False),
        sa.Column("active_leaf_id", _id),
        sa.Column("created_at", _time, nullable=False),
        sa.Column("updated_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_conversation"),
        *([leaf] if sqlite else []),  # the two tables refer to each other; SQLite cannot add it later, PostgreSQL must
    )
    op.create_table(
        "turn",
        sa.Column("id", _id, nullable=False),
        sa.Column("conversation_id", _id, nullable=False),
        sa.Column("parent_turn_id", _id),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("tool_name", sa.Text(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_turn"),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversation.id"], "fk_turn_conversation_id"),
        sa.ForeignKeyConstraint(["parent_turn_id"], ["turn.id"], "fk_turn_parent_turn_id"),
    )
    if not sqlite:
        op.create_foreign_key(
            "fk_conversation_active_leaf_id", "conversation", "turn", ["active_leaf_id"], ["id"], ondelete="SET NULL"
        )
    op.create_index("ix_conversation_active_leaf_id", "conversation", ["active_leaf_id"])
    op.create_index("ix_conversation_updated_at", "conversation", ["updated_at"])
    op.create_index("ix_turn_conversation_id", "turn", ["conversation_id"])
    op.create_index("ix_turn_parent_turn_id", "turn", ["parent_turn_id"])


def _answers() -> None:
    op.create_table(
        "config_snapshot",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("canonical_json", sa.Text(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_config_snapshot"),
    )
    op.create_table(
        "inference",
        sa.Column("id", _id, nullable=False),
        sa.Column("turn_id", _id, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("config_hash", sa.String(64), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("decision", _json, nullable=False),
        sa.Column("seed", sa.BigInteger()),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("context_tokens", sa.Integer(), nullable=False),
        sa.Column("dropped_turns", sa.Integer(), nullable=False),
        sa.Column("ttft_s", sa.Double(), nullable=False),
        sa.Column("total_s", sa.Double(), nullable=False),
        sa.Column("load_s", sa.Double(), nullable=False),
        sa.Column("finish", sa.String(16), nullable=False),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("tainted", sa.Boolean(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.Column("updated_at", _time, nullable=False),
        sa.Column("finished_at", _time),
        sa.PrimaryKeyConstraint("id", name="pk_inference"),
        sa.UniqueConstraint("turn_id", name="uq_inference_turn_id"),
        sa.ForeignKeyConstraint(["turn_id"], ["turn.id"], "fk_inference_turn_id"),
        sa.ForeignKeyConstraint(["config_hash"], ["config_snapshot.sha256"], "fk_inference_config_hash"),
    )
    unfinished = sa.text("status IN ('pending', 'streaming')")
    op.create_index("ix_inference_config_hash", "inference", ["config_hash"])
    op.create_index("ix_inference_unfinished", "inference", ["status"], sqlite_where=unfinished, postgresql_where=unfinished)
    op.create_table(
        "inference_payload",
        sa.Column("inference_id", _id, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("thinking", sa.Text(), nullable=False),
        sa.Column("tool_calls", _json, nullable=False),
        sa.PrimaryKeyConstraint("inference_id", name="pk_inference_payload"),
        sa.ForeignKeyConstraint(["inference_id"], ["inference.id"], "fk_inference_payload_inference_id"),
    )


def _feedback() -> None:
    op.create_table(
        "feedback",
        sa.Column("id", _id, nullable=False),
        sa.Column("inference_id", _id, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("supersedes_id", _id),
        sa.Column("withdrawn", sa.Boolean(), nullable=False),
        sa.Column("dedupe_key", sa.Text()),
        sa.Column("created_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
        sa.UniqueConstraint("dedupe_key", name="uq_feedback_dedupe_key"),
        sa.ForeignKeyConstraint(["inference_id"], ["inference.id"], "fk_feedback_inference_id"),
        sa.ForeignKeyConstraint(["supersedes_id"], ["feedback.id"], "fk_feedback_supersedes_id"),
    )
    op.create_index("ix_feedback_inference_id", "feedback", ["inference_id"])
    op.create_index("ix_feedback_supersedes_id", "feedback", ["supersedes_id"])
    op.create_table(
        "preference",
        sa.Column("feedback_id", _id, nullable=False),
        sa.Column("chosen_inference_id", _id, nullable=False),
        sa.Column("rejected_inference_id", _id, nullable=False),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.Column("chosen_left", sa.Boolean()),
        sa.PrimaryKeyConstraint("feedback_id", name="pk_preference"),
        sa.ForeignKeyConstraint(["feedback_id"], ["feedback.id"], "fk_preference_feedback_id"),
        sa.ForeignKeyConstraint(["chosen_inference_id"], ["inference.id"], "fk_preference_chosen_inference_id"),
        sa.ForeignKeyConstraint(["rejected_inference_id"], ["inference.id"], "fk_preference_rejected_inference_id"),
    )
    op.create_index("ix_preference_chosen_inference_id", "preference", ["chosen_inference_id"])
    op.create_index("ix_preference_rejected_inference_id", "preference", ["rejected_inference_id"])


def _search() -> None:
    op.create_table(
        "search_document",
        sa.Column("id", _row_number, nullable=False, autoincrement=True),
        sa.Column("conversation_id", _id, nullable=False),
        sa.Column("turn_id", _id),
        sa.Column("feedback_id", _id),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_search_document"),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversation.id"], "fk_search_document_conversation_id"),
        sa.ForeignKeyConstraint(["turn_id"], ["turn.id"], "fk_search_document_turn_id"),
        sa.ForeignKeyConstraint(["feedback_id"], ["feedback.id"], "fk_search_document_feedback_id"),
    )
    for column in ("conversation_id", "turn_id", "feedback_id"):
        op.create_index(f"ix_search_document_{column}", "search_document", [column])
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE search_index USING fts5("
            "body, content='search_document', content_rowid='id', tokenize='unicode61 remove_diacritics 2', prefix='2 3')"
        )
    else:
        op.execute("ALTER TABLE search_document ADD COLUMN terms tsvector NOT NULL")
        op.create_index("ix_search_document_terms", "search_document", ["terms"], postgresql_using="gin")
