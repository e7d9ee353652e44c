"""The tables of the log, as Core objects, and the column types that make both databases behave alike.

The schema itself is made by migrations/, which a test compares with this file. Every id is a uuid7 in hex. feedback and
preference are only ever added to. Not covered, since only migrations/ makes them: the full-text index over search_document,
and the index over unfinished answers (naming it here would import both databases' dialects at every start).
"""

import importlib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.types import DateTime, TypeDecorator, TypeEngine

from data.errors import InputError, StoreDamaged

_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def clean(words: str) -> str:
    """`words` as both databases can keep them: NUL becomes U+2400, a lone surrogate U+FFFD, a surrogate pair its character."""
    if "\0" in words:
        words = words.replace("\0", "\u2400")
    try:
        words.encode()
    except UnicodeEncodeError:
        words = words.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return words


def dump_json(value: Any) -> str:
    """Canonical JSON (sorted keys, no spaces) of cleaned text; NaN and infinities become null.

    Raises InputError where the value is nested too deeply, TypeError where it is no JSON.
    """
    try:
        raw = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        if "NaN" in raw or "Infinity" in raw:
            finite = json.loads(raw, parse_constant=lambda _: None)
            raw = json.dumps(finite, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    except RecursionError as error:
        raise InputError("a value is nested too deeply to be kept", "flatten it") from error
    return clean(_ESCAPED_NUL.sub(r"\1\\u2400", raw))


def load_json(raw: str) -> Any:
    """The inverse of `dump_json`; raises StoreDamaged where a stored value is no JSON."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"a value in the log is damaged: {error}", "run pointsman doctor") from error


def count(value: float) -> int:
    """A token count fit for an integer column; a server may report anything."""
    return min(max(int(value), 0), 2**31 - 1) if math.isfinite(value) else 0


def seconds(value: float) -> float:
    """A duration in seconds fit for a column: finite and not negative."""
    return max(float(value), 0.0) if math.isfinite(value) else 0.0


class Words(TypeDecorator[str]):
    """Text of any length, cleaned on its way in."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else clean(value)


class Id(Words):
    """A uuid7 in hex."""

    impl = String(32)
    cache_ok = True


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC: timestamptz on PostgreSQL, ISO 8601 text of fixed width (so that it sorts) on SQLite."""

    impl = String(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DateTime(timezone=True) if dialect.name == "postgresql" else String(32))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name == "postgresql":
            return value.astimezone(UTC) if value else None
        try:
            return datetime.fromisoformat(value)
        except (ValueError, TypeError) as error:
            raise StoreDamaged(f"a time in the log is damaged: {value!r}", "run pointsman doctor") from error


class Json(TypeDecorator[Any]):
    """Plain JSON, written and read by `dump_json` and `load_json`: jsonb on PostgreSQL, text on SQLite."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON())
        from sqlalchemy.dialects.postgresql import JSONB  # here: importing that dialect takes a tenth of the opening

        return dialect.type_descriptor(JSONB())


def insert_once(connection: Connection, into: Table, unique: str, values: Mapping[str, Any]) -> bool:
    """Insert a row unless one with the same `unique` column is there already; whether it was inserted."""
    dialect = importlib.import_module(f"sqlalchemy.dialects.{connection.dialect.name}")
    statement = dialect.insert(into).values(values).on_conflict_do_nothing(index_elements=[unique])
    return connection.execute(statement.returning(into.c[unique])).first() is not None


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

conversation = Table(
    "conversation",
    metadata,
    Column("id", Id, primary_key=True),
    Column("title", Words, nullable=False),
    Column("domain", Words, nullable=False),
    Column("system_prompt", Words, nullable=False),
    Column("incognito", Boolean, nullable=False),
    Column("active_leaf_id", Id, ForeignKey("turn.id", ondelete="SET NULL", use_alter=True), index=True),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False, index=True),
)

turn = Table(
    "turn",
    metadata,
    Column("id", Id, primary_key=True),
    Column("conversation_id", Id, ForeignKey("conversation.id"), nullable=False, index=True),
    Column("parent_turn_id", Id, ForeignKey("turn.id"), index=True),
    Column("role", String(16), nullable=False),
    Column("content", Words, nullable=False),  # "" for an answer, whose text is its inference_payload's
    Column("tool_name", Words, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

config_snapshot = Table(
    "config_snapshot",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("canonical_json", Words, nullable=False),  # text, not JSON: its bytes are what the hash is of
    Column("created_at", UtcTime, nullable=False),
)

inference = Table(
    "inference",
    metadata,
    Column("id", Id, primary_key=True),
    Column("turn_id", Id, ForeignKey("turn.id"), nullable=False, unique=True),
    Column("status", String(16), nullable=False),
    Column("config_hash", String(64), ForeignKey("config_snapshot.sha256"), nullable=False, index=True),
    Column("model", Words, nullable=False),
    Column("engine", Words, nullable=False),
    Column("mode", Words, nullable=False),
    Column("domain", Words, nullable=False),
    Column("decision", Json, nullable=False),
    Column("seed", BigInteger),
    Column("prompt_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("context_tokens", Integer, nullable=False),
    Column("dropped_turns", Integer, nullable=False),
    Column("ttft_s", Double, nullable=False),
    Column("total_s", Double, nullable=False),
    Column("load_s", Double, nullable=False),
    Column("finish", String(16), nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("tainted", Boolean, nullable=False),
    Column("error", Words, nullable=False),
    Column("writer", Words, nullable=False),  # which process answers: see writer.py
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
)

inference_payload = Table(
    "inference_payload",
    metadata,
    Column("inference_id", Id, ForeignKey("inference.id"), primary_key=True),
    Column("text", Words, nullable=False),
    Column("thinking", Words, nullable=False),
    Column("tool_calls", Json, nullable=False),
    Column("trace", Json, nullable=False, server_default="[]"),  # what happened within the answer, in order
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Id, primary_key=True),
    Column("inference_id", Id, ForeignKey("inference.id"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("value", Double),
    Column("text", Words, nullable=False),
    Column("source", String(16), nullable=False),
    Column("supersedes_id", Id, ForeignKey("feedback.id"), index=True),
    Column("withdrawn", Boolean, nullable=False),
    Column("dedupe_key", Words, unique=True),
    Column("created_at", UtcTime, nullable=False),
)

preference = Table(
    "preference",
    metadata,
    Column("feedback_id", Id, ForeignKey("feedback.id"), primary_key=True),
    Column("chosen_inference_id", Id, ForeignKey("inference.id"), nullable=False, index=True),
    Column("rejected_inference_id", Id, ForeignKey("inference.id"), nullable=False, index=True),
    Column("blind", Boolean, nullable=False),
    Column("chosen_left", Boolean),
)

regression = Table(
    "regression",
    metadata,
    Column(
        "feedback_id", Id, ForeignKey("feedback.id", ondelete="CASCADE"), primary_key=True
    ),  # the correction, which has the text
    Column("domain", Words, nullable=False, index=True),
)

exemplar = Table(
    "exemplar",
    metadata,
    Column("id", Id, primary_key=True),
    Column("inference_id", Id, ForeignKey("inference.id"), index=True),
    Column("text", Words, nullable=False),
    Column("domain", Words, nullable=False),
    Column("mode", Words, nullable=False),
    Column("source", String(16), nullable=False),
    Column("withdrawn", Boolean, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

evaluation = Table(
    "evaluation",
    metadata,
    Column("id", Id, primary_key=True),
    Column("model", Words, nullable=False, index=True),
    Column("base", Words, nullable=False),
    Column("domain", Words, nullable=False),
    Column("pairs", Integer, nullable=False),
    Column("gain", Double, nullable=False),
    Column("lower", Double, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

search_document = Table(
    "search_document",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),  # the full-text index's row number
    Column("conversation_id", Id, ForeignKey("conversation.id"), nullable=False, index=True),
    Column("turn_id", Id, ForeignKey("turn.id"), index=True),
    Column("feedback_id", Id, ForeignKey("feedback.id"), index=True),
    Column("kind", String(16), nullable=False),
    Column("body", Words, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

document = Table(
    "document",
    metadata,
    Column("id", Id, primary_key=True),
    Column("place", String(64), nullable=False, unique=True),  # sha256 of conversation and path, which are too long to index
    Column("path", Words, nullable=False),
    Column("name", Words, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("cut", String(32), nullable=False),
    Column("version", Id, nullable=False),
    Column("added_at", UtcTime, nullable=False),
    Column("conversation_id", Id, ForeignKey("conversation.id"), index=True),
)

chunk = Table(
    "chunk",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),  # the full-text index's row number
    Column("document_id", Id, ForeignKey("document.id"), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("first_line", Integer, nullable=False),
    Column("last_line", Integer, nullable=False),
    Column("page", Integer, nullable=False),
    Column("heading", Words, nullable=False),
    Column("body", Words, nullable=False),
    Column("embedding", LargeBinary),  # float16, little-endian, length 1
    Column("encoder", String(64), nullable=False),  # "" where there is no embedding
)
