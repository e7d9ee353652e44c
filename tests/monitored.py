"""A log of many answers, made fast and from a seed: rows as the log writes them, at days of one's choosing."""

import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert

from data.store import Store
from data.store import tables as t

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
PLAIN = "0" * 64
HELD = "1" * 64
BATCH = 2000


def fill(store: Store, count: int, *, ago: tuple[float, float], seed: int = 1, model: str = "llamacpp/small", **how) -> None:
    """Add `count` answers, spread evenly between `ago` days before NOW (the older first).

    domain, text, schema, ttft_s, tokens, speed; bad: chances of the things that count against an answer, by name (thumbs_down,
    regenerated, failed, truncated, refused, json_invalid); rated: the chance of a thumb.
    """
    chance = random.Random(f"{seed} {model} {how.get('domain', '')} {ago}")
    tables = (t.conversation, t.turn, t.inference, t.inference_payload, t.feedback)
    with store.database.write() as connection:
        for sha256, content in ((PLAIN, "{}"), (HELD, '{"schema":{"type":"object"}}')):
            t.insert_once(connection, t.config_snapshot, "sha256", {"sha256": sha256, "canonical_json": content, "created_at": NOW})
        batch: dict[str, list[dict]] = {table.name: [] for table in tables}
        for index in range(count):
            at = NOW - timedelta(days=ago[0] - (ago[0] - ago[1]) * index / count)
            for table, row in _answer(at, chance, model, how):
                batch[table].append(row)
            if index % BATCH == BATCH - 1 or index == count - 1:
                for table in tables:
                    if batch[table.name]:
                        connection.execute(insert(table), batch[table.name])
                        batch[table.name].clear()


def _answer(at: datetime, chance: random.Random, model: str, how: dict) -> Iterator[tuple[str, dict]]:
    bad, domain = how.get("bad", {}), how.get("domain", "triage")

    def falls(what: str) -> bool:
        return chance.random() < bad.get(what, 0.0)

    talk, question = _id(at, chance), _id(at, chance)
    yield (
        "conversation",
        {
            "id": talk,
            "title": "t",
            "domain": domain,
            "system_prompt": "",
            "incognito": False,
            "active_leaf_id": None,
            "created_at": at,
            "updated_at": at,
        },
    )
    yield "turn", _turn(question, talk, None, "user", at)
    again = falls("regenerated")
    for moment in sorted([at, at + timedelta(seconds=2)][: 1 + again]):
        key, turn = _id(moment, chance), _id(moment, chance)
        yield "turn", _turn(turn, talk, question, "assistant", moment)
        failed = falls("failed")
        text = "I'm sorry, but I cannot help with that." if falls("refused") else how.get("text", "Because.")
        if how.get("schema"):
            text = "{" if falls("json_invalid") else '{"a":1}'
        ttft = how.get("ttft_s", 0.2) * chance.lognormvariate(0, 0.3)
        tokens = max(int(how.get("tokens", 100) * chance.lognormvariate(0, 0.4)), 2)
        yield (
            "inference",
            {
                "id": key,
                "turn_id": turn,
                "status": "error" if failed else how.get("status", "complete"),
                "config_hash": HELD if how.get("schema") else PLAIN,
                "model": model,
                "engine": "llamacpp",
                "mode": "standard",
                "domain": domain,
                "decision": {},
                "seed": None,
                "prompt_tokens": 10,
                "cached_tokens": 0,
                "completion_tokens": tokens,
                "context_tokens": 2048,
                "dropped_turns": 0,
                "ttft_s": ttft,
                "total_s": ttft + tokens / how.get("speed", 50.0),
                "load_s": 0.0,
                "finish": "stop",
                "truncated": falls("truncated"),
                "tainted": False,
                "error": "",
                "writer": "",
                "created_at": moment,
                "updated_at": moment,
                "finished_at": moment,
            },
        )
        yield (
            "inference_payload",
            {"inference_id": key, "text": "" if failed else text, "thinking": "", "tool_calls": [], "trace": []},
        )
        if chance.random() < how.get("rated", 0.0):
            value = -1.0 if falls("thumbs_down") else 1.0
            yield (
                "feedback",
                {
                    "id": _id(moment, chance),
                    "inference_id": key,
                    "kind": "thumb",
                    "value": value,
                    "text": "",
                    "source": "user",
                    "supersedes_id": None,
                    "withdrawn": False,
                    "dedupe_key": None,
                    "created_at": moment,
                },
            )


def _turn(key: str, talk: str, parent: str | None, role: str, at: datetime) -> dict:
    return {
        "id": key,
        "conversation_id": talk,
        "parent_turn_id": parent,
        "role": role,
        "content": "",
        "tool_name": "",
        "created_at": at,
    }


def _id(at: datetime, chance: random.Random) -> str:
    rest = hashlib.sha256(str(chance.random()).encode()).hexdigest()
    return f"{int(at.timestamp() * 1000):012x}7{rest[:3]}8{rest[3:18]}"
