"""The registry of model versions and the experiments: versions, aliases, gate decisions, stage events, assignments, notices."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_id = sa.String(32)
_json = sa.JSON().with_variant(JSONB(), "postgresql")
_time = sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql")
_ADDED_TO = ("stage_event", "gate_decision")
_FUNCTION = """CREATE FUNCTION pointsman_added_to_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'rows of % are only ever added', TG_TABLE_NAME; END $$"""


def upgrade() -> None:
    """Make the tables, the indexes that allow one champion, canary and experiment a domain, and the triggers."""
    _registry()
    _experiments()
    _one("ix_model_version_champion", "model_version", "stage = 'champion'")
    _one("ix_model_version_canary", "model_version", "stage = 'canary'")
    _one("ix_experiment_running", "experiment", "state = 'running'")
    _forbid_changes()


def downgrade() -> None:
    """Drop everything."""
    for table in ("notice", "assignment", "experiment", "stage_event", "gate_decision", "alias", "model_version"):
        op.drop_table(table)
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION pointsman_added_to_only()")


def _registry() -> None:
    op.create_table(
        "model_version",
        sa.Column("id", _id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("artefact", _json, nullable=False),
        sa.Column("lineage", _json, nullable=False),
        sa.Column("evidence", _json, nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_model_version"),
        sa.UniqueConstraint("sha256", name="uq_model_version_sha256"),
    )
    op.create_index("ix_model_version_domain", "model_version", ["domain"])
    op.create_table(
        "alias",
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("version_id", _id, nullable=False),
        sa.Column("updated_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("domain", "name", name="pk_alias"),
        sa.ForeignKeyConstraint(["version_id"], ["model_version.id"], "fk_alias_version_id"),
    )
    op.create_index("ix_alias_version_id", "alias", ["version_id"])
    op.create_table(
        "gate_decision",
        sa.Column("id", _id, nullable=False),
        sa.Column("version_id", _id, nullable=False),
        sa.Column("champion_id", _id),
        sa.Column("rules", sa.String(16), nullable=False),
        sa.Column("gates", _json, nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("override", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_gate_decision"),
        sa.ForeignKeyConstraint(["version_id"], ["model_version.id"], "fk_gate_decision_version_id"),
        sa.ForeignKeyConstraint(["champion_id"], ["model_version.id"], "fk_gate_decision_champion_id"),
    )
    op.create_index("ix_gate_decision_version_id", "gate_decision", ["version_id"])
    op.create_table(
        "stage_event",
        sa.Column("id", _id, nullable=False),
        sa.Column("version_id", _id, nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("from_stage", sa.String(16), nullable=False),
        sa.Column("to_stage", sa.String(16), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("gate_decision_id", _id),
        sa.Column("created_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_stage_event"),
        sa.ForeignKeyConstraint(["version_id"], ["model_version.id"], "fk_stage_event_version_id"),
        sa.ForeignKeyConstraint(["gate_decision_id"], ["gate_decision.id"], "fk_stage_event_gate_decision_id"),
    )
    op.create_index("ix_stage_event_version_id", "stage_event", ["version_id"])
    op.create_index("ix_stage_event_domain", "stage_event", ["domain"])


def _experiments() -> None:
    op.create_table(
        "experiment",
        sa.Column("id", _id, nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("arms", _json, nullable=False),
        sa.Column("salt", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("version_id", _id),
        sa.Column("baseline", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("started_at", _time, nullable=False),
        sa.Column("ended_at", _time),
        sa.PrimaryKeyConstraint("id", name="pk_experiment"),
        sa.ForeignKeyConstraint(["version_id"], ["model_version.id"], "fk_experiment_version_id"),
    )
    op.create_index("ix_experiment_domain", "experiment", ["domain"])
    op.create_table(
        "assignment",
        sa.Column("experiment_id", _id, nullable=False),
        sa.Column("conversation_id", _id, nullable=False),
        sa.Column("arm", sa.Text(), nullable=False),
        sa.Column("propensity", sa.Double(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "conversation_id", name="pk_assignment"),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiment.id"], "fk_assignment_experiment_id"),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversation.id"], "fk_assignment_conversation_id", ondelete="CASCADE"),
    )
    op.create_index("ix_assignment_conversation_id", "assignment", ["conversation_id"])
    op.create_table(
        "notice",
        sa.Column("id", _id, nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", _time, nullable=False),
        sa.Column("shown_at", _time),
        sa.PrimaryKeyConstraint("id", name="pk_notice"),
    )


def _one(name: str, table: str, where: str) -> None:
    """A domain has one row at most of which `where` holds."""
    condition = sa.text(where)
    op.create_index(name, table, ["domain"], unique=True, sqlite_where=condition, postgresql_where=condition)


def _forbid_changes() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    if not sqlite:
        op.execute(_FUNCTION)
    for table in _ADDED_TO:
        if not sqlite:
            op.execute(
                f"CREATE TRIGGER {table}_added_to_only BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION pointsman_added_to_only()"
            )
            continue
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are only ever added'); END"
            )
