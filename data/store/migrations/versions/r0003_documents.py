"""Documents: their chunks with vectors, and the full-text index over the chunks."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_id = sa.String(32)
_time = sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql")
_row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make both tables, then the index of the database at hand."""
    op.create_table(
        "document",
        sa.Column("id", _id, nullable=False),
        sa.Column("place", sa.String(64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("cut", sa.String(32), nullable=False),
        sa.Column("version", _id, nullable=False),
        sa.Column("added_at", _time, nullable=False),
        sa.Column("conversation_id", _id),
        sa.PrimaryKeyConstraint("id", name="pk_document"),
        sa.UniqueConstraint("place", name="uq_document_place"),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversation.id"], "fk_document_conversation_id"),
    )
    op.create_index("ix_document_conversation_id", "document", ["conversation_id"])
    op.create_table(
        "chunk",
        sa.Column("id", _row_number, nullable=False, autoincrement=True),
        sa.Column("document_id", _id, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("first_line", sa.Integer(), nullable=False),
        sa.Column("last_line", sa.Integer(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=False),
        sa.Column("heading", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("embedding", sa.LargeBinary()),
        sa.Column("encoder", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_chunk"),
        sa.ForeignKeyConstraint(["document_id"], ["document.id"], "fk_chunk_document_id"),
    )
    op.create_index("ix_chunk_document_id", "chunk", ["document_id"])
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE chunk_index USING fts5("
            "heading, body, content='chunk', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2')"
        )
    else:
        op.execute("ALTER TABLE chunk ADD COLUMN terms tsvector NOT NULL")
        op.create_index("ix_chunk_terms", "chunk", ["terms"], postgresql_using="gin")


def downgrade() -> None:
    """Drop the index and both tables."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE chunk_index")
    op.drop_table("chunk")
    op.drop_table("document")
