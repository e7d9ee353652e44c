"""The tables of the registry and of experiments, beside those of the log (tables.py), whose column types they use.

stage_event and gate_decision are only ever added to, which triggers enforce; partial unique indexes see to one champion, one
canary and one running experiment a domain. Triggers and those indexes are made by migrations/ alone. Not covered: what is in the
rows (versions.py).
"""

from sqlalchemy import Boolean, Column, Double, ForeignKey, String, Table

from data.store.tables import Id, Json, UtcTime, Words, metadata

model_version = Table(
    "model_version",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Words, nullable=False),  # that of the export's folder
    Column("domain", Words, nullable=False, index=True),
    Column("model", Words, nullable=False),  # what the router asks for: engine/name
    Column("base", Words, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),  # of domain, name and the digests of all files
    Column("artefact", Json, nullable=False),
    Column("lineage", Json, nullable=False),
    Column("evidence", Json, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

alias = Table(
    "alias",
    metadata,
    Column("domain", Words, primary_key=True),
    Column("name", String(16), primary_key=True),
    Column("version_id", Id, ForeignKey("model_version.id"), nullable=False, index=True),
    Column("updated_at", UtcTime, nullable=False),
)

gate_decision = Table(
    "gate_decision",
    metadata,
    Column("id", Id, primary_key=True),
    Column("version_id", Id, ForeignKey("model_version.id"), nullable=False, index=True),
    Column("champion_id", Id, ForeignKey("model_version.id")),  # which one stood when it was taken
    Column("rules", String(16), nullable=False),
    Column("gates", Json, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("override", Words, nullable=False),
    Column("who", Words, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

stage_event = Table(
    "stage_event",
    metadata,
    Column("id", Id, primary_key=True),
    Column("version_id", Id, ForeignKey("model_version.id"), nullable=False, index=True),
    Column("domain", Words, nullable=False, index=True),
    Column("action", String(16), nullable=False),
    Column("from_stage", String(16), nullable=False),
    Column("to_stage", String(16), nullable=False),
    Column("who", Words, nullable=False),
    Column("why", Words, nullable=False),
    Column("gate_decision_id", Id, ForeignKey("gate_decision.id")),
    Column("created_at", UtcTime, nullable=False),
)

experiment = Table(
    "experiment",
    metadata,
    Column("id", Id, primary_key=True),
    Column("domain", Words, nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("arms", Json, nullable=False),
    Column("salt", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("who", Words, nullable=False),
    Column("why", Words, nullable=False),
    Column("outcome", Words, nullable=False),
    Column("version_id", Id, ForeignKey("model_version.id")),  # the canary
    Column("baseline", Double, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
)

assignment = Table(
    "assignment",
    metadata,
    Column("experiment_id", Id, ForeignKey("experiment.id"), primary_key=True),
    Column("conversation_id", Id, ForeignKey("conversation.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("arm", Words, nullable=False),
    Column("propensity", Double, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

notice = Table(
    "notice",
    metadata,
    Column("id", Id, primary_key=True),
    Column("domain", Words, nullable=False),
    Column("text", Words, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("shown_at", UtcTime),
)
