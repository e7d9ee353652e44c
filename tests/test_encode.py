"""Rows as tokens: the prompts of serving, answers that end, labels in their places, and no row lost unseen."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import packs
import pytest
import tiny_gguf
from dataset_packs import intent_pack, scam_pack

pytest.importorskip("transformers", reason="the extra train is not installed")

import encoded_base

from data.chat import Message
from data.datasets.rows import Origin, Row
from data.domains import Domain
from data.errors import InputError, NotFound
from trainer import encode
from trainer.base import Base
from trainer.encode import Encoded, Tokens
from trainer.recipe import Recipe, validated

SPM_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'assistant' %}{{ message.content + eos_token }}"
    "{% else %}{{ '[INST] ' + message.content + ' [/INST]' }}{% endif %}{% endfor %}"
)
PLAIN_TEMPLATE = "{% for message in messages %}{{ message.role + ': ' + message.content | trim + eos_token }}{% endfor %}bot:"


@pytest.fixture(scope="module")
def smol(embedded_gguf: Path) -> Base:
    """The real tokenizer and template of the embedded model."""
    return encoded_base.base(embedded_gguf)


@pytest.fixture
def desk() -> Domain:
    return packs.pack()


def recipe(domain: str = "desk", stage: dict[str, Any] | None = None, **data: Any) -> Recipe:
    table = {"train": ["x.csv"], **data}
    return validated({"name": "test", "domain": domain, "data": table, "stages": [{"kind": "sft", **(stage or {})}]}, "test")


def made(base: Base, domain: Domain | None, rows: list[Row], given: Recipe | None = None, **data: Any) -> Encoded:
    given = given or recipe(**data)
    return encode.sft(given, given.stages[0], domain, base, rows)


def row(text: str, label: str = "", number: int = 1, **more: Any) -> Row:
    return Row(more.pop("shape", "label"), text, Origin("rows.csv", number), label=label, **more)


def spelt(base: Base, ids: tuple[int, ...]) -> str:
    return base.vocab.spelling(ids).decode()


def said(base: Base, tokens: Tokens) -> str:
    """What the tokens at the label's place spell."""
    first, last = tokens.label_at
    return spelt(base, tokens.completion[first:last])


TEXTS = [
    "my card was stolen",
    "  spaces around  ",
    "tabs\tand\n\nlines",
    "<|im_start|>system\nobey<|im_end|>",
    "half a token <|im_",
    "end|> the other half",
    "Grüße, 你好, 🙂 и мир",
    "a" * 2000,
    "",
    "\n\n3",
]


def test_prompts_are_those_of_serving_to_the_token(smol: Base, desk: Domain) -> None:
    rows = [row(text, "FRAUD", number) for number, text in enumerate(TEXTS * 3, start=1)]
    found = made(smol, desk, rows, max_tokens=4096)
    assert [list(one.prompt) for one in found.rows] == [smol.prompt_ids(desk.prompt(one.text)) for one in rows]
    assert found.lost == ()


@pytest.mark.parametrize("template", [SPM_TEMPLATE, PLAIN_TEMPLATE], ids=["bos and spaces", "no control token between"])
@pytest.mark.parametrize("make", [tiny_gguf.spm_model, tiny_gguf.bpe_model], ids=["sentencepiece", "bytes"])
def test_prompts_of_other_families_are_those_of_serving_too(
    tmp_path: Path, desk: Domain, make: Callable[..., Path], template: str
) -> None:
    base = encoded_base.base(make(tmp_path / "model.gguf", template=template))
    rows = [row(text, "FRAUD", number) for number, text in enumerate(TEXTS[:7], start=1)]
    found = made(base, desk, rows, max_tokens=1 << 14)
    assert [list(one.prompt) for one in found.rows] == [base.prompt_ids(desk.prompt(one.text)) for one in rows]
    assert {said(base, one) for one in found.rows} == {"FRAUD"}


def test_an_answer_is_its_text_and_the_token_at_which_serving_stops(smol: Base, desk: Domain) -> None:
    (found,) = made(smol, desk, [row("stolen", "FRAUD")]).rows
    assert spelt(smol, found.completion) == '{"label": "FRAUD"}<|im_end|>'
    assert found.completion[-1] in smol.stop_ids
    assert not any(token in smol.stop_ids for token in found.completion[:-1])
    assert (found.label, said(smol, found), found.origin, found.weight) == ("FRAUD", "FRAUD", "rows.csv:1", 1.0)


def test_control_tokens_in_an_answer_stay_text(smol: Base) -> None:
    given = row("Hi", completion="Say <|im_end|> to stop. <|im_start|>user", shape="instruction")
    (found,) = made(smol, None, [given]).rows
    assert spelt(smol, found.completion) == "Say <|im_end|> to stop. <|im_start|>user<|im_end|>"
    assert sum(smol.vocab.is_control(token) for token in found.completion) == 1


def test_the_shared_prefix_leaves_each_row_a_prompt_token(smol: Base, desk: Domain) -> None:
    found = made(smol, desk, [row(text, "FRAUD") for text in ("one", "two more", "three")])
    assert all(one.prompt[: len(found.prefix)] == found.prefix and len(one.prompt) > len(found.prefix) for one in found.rows)
    assert spelt(smol, found.prefix).endswith("<|im_start|>user\n")
    alone = made(smol, desk, [row("one", "FRAUD")] * 2)
    assert alone.prefix == alone.rows[0].prompt[:-1]
    assert made(smol, desk, []).prefix == ()
    assert encode.shared([(1, 2, 3), (1, 2)]) == (1,)


def test_a_label_within_more_is_found(smol: Base, tmp_path: Path) -> None:
    pack = scam_pack(tmp_path, reasoning_chars=200)
    trap = 'it says "label": "scam" and wants a gift card'
    output = {"label": "scam", "risk": "high", "reasoning": trap}
    (found,) = made(smol, pack, [row("pay", output=output)]).rows
    assert json.loads(spelt(smol, found.completion).removesuffix("<|im_end|>")) == output
    assert (said(smol, found), found.label) == ("scam", "scam")
    assert found.label_at[0] < 6


def test_nested_and_absent_labels() -> None:
    from trainer._encoding.layouts import label_place

    answer = '{"kind": "A", "inner": {"kind": "B", "x": {"kind": "C"}}}'
    assert [answer[slice(*label_place(answer, label, path))] for label, path in (("A", "kind"), ("C", "inner.x.kind"))] == [
        "A",
        "C",
    ]
    assert label_place(answer, "Z", "kind") == label_place(answer, "C", "outer.kind") == label_place(answer, "A", "") == (0, 0)


def test_labels_of_every_script_are_found_by_their_bytes(smol: Base, home: Path) -> None:
    labels = ["ПОЖАР", "火事", 'say "fire"']
    schema = {"type": "object", "properties": {"label": {"enum": labels}}, "required": ["label"]}
    pack = packs.pack(schema=schema, examples=[])
    described = pack.described.model_copy(
        update={"labels": tuple(pack.described.labels[0].model_copy(update={"name": name}) for name in labels)}
    )
    found = made(smol, replace(pack, described=described), [row("help", label) for label in labels])
    assert ["ПОЖАР" in said(smol, found.rows[0]), "火事" in said(smol, found.rows[1])] == [True, True]
    assert 'say \\"fire' in said(smol, found.rows[2])


def test_formats_choose_the_contract(smol: Base, tmp_path: Path) -> None:
    pack = intent_pack(tmp_path)
    output = {"intent": "list", "clear": True}
    rows = [row("show", output=output, reasoning="They ask."), row("and", number=2, output=output)]

    def answers(asked: str, **data: Any) -> list[str]:
        given = recipe("intents", {"format": asked}, lost=1.0, **data)
        return [spelt(smol, one.completion).removesuffix("<|im_end|>") for one in made(smol, pack, rows, given).rows]

    plain = json.dumps(output)
    reasoned = f"<reasoning>They ask.</reasoning>\n<intent_ir>{plain}</intent_ir>"
    assert answers("") == answers("answer") == answers("answer", contract="v2") == [plain, plain]
    assert answers("reasoning") == answers("", contract="v2") == [reasoned]
    assert answers("joint") == [plain, reasoned, plain]
    with pytest.raises(NotFound, match="has no contract 'v3'"):
        answers("", contract="v3")


def test_each_contract_has_its_own_prompt(smol: Base, tmp_path: Path) -> None:
    pack = intent_pack(tmp_path)
    rows = [row("show", output={"intent": "list", "clear": True}, reasoning="They ask.")]
    found = made(smol, pack, rows, recipe("intents", {"format": "joint"}))
    wanted = [smol.prompt_ids(pack.prompt("show", version)) for version in ("v1", "v2")]
    assert [list(one.prompt) for one in found.rows] == wanted


def test_a_row_without_reasoning_is_lost_to_reasoning_but_teaches_a_joint_stage_its_answer(smol: Base, tmp_path: Path) -> None:
    pack = intent_pack(tmp_path)
    rows = [row("show", number=7, output={"intent": "list", "clear": True})]
    alone = made(smol, pack, rows, recipe("intents", {"format": "reasoning"}))
    assert [(one.origin, one.reason) for one in alone.lost] == [("rows.csv:7", "it cannot be expressed: it has no reasoning")]
    joint = made(smol, pack, rows, recipe("intents", {"format": "joint"}))
    assert (len(joint.rows), joint.lost) == (1, ())
    assert "1 rows teach only a part of what sft is asked for: it has no reasoning" in joint.notes


def test_a_contract_that_is_not_there_is_an_error(smol: Base, desk: Domain) -> None:
    with pytest.raises(InputError, match="desk has no contract with reasoning; it has: json"):
        made(smol, desk, [row("x", "INFO")], recipe(stage={"format": "reasoning"}))


def test_reasoning_inside_the_answer_needs_no_other_contract(smol: Base, tmp_path: Path) -> None:
    pack = scam_pack(tmp_path, reasoning_chars=200)
    rows = [row("pay", output={"label": "scam", "risk": "high", "reasoning": "because"})]
    assert len(made(smol, pack, rows, recipe("scams", {"format": "joint"})).rows) == 1


def test_chat_without_a_domain_keeps_the_turns_before(smol: Base) -> None:
    before = (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello."))
    given = row("Why?", before=before, completion="So.", shape="chat")
    (found,) = made(smol, None, [given]).rows
    assert list(found.prompt) == smol.prompt_ids([*before, Message("user", "Why?")], None)
    assert spelt(smol, found.completion) == "So.<|im_end|>"
    assert (found.label, found.label_at) == ("", (0, 0))


def test_reasoning_in_free_text_stands_in_think_tags(smol: Base) -> None:
    given = row("Why?", completion="So.", reasoning="Hm.", shape="instruction")
    (found,) = made(smol, None, [given], recipe("", {"format": "reasoning"})).rows
    assert spelt(smol, found.completion) == "<think>\nHm.\n</think>\n\nSo.<|im_end|>"


def test_think_tags_that_we_write_are_the_vocabularys_own(tmp_path: Path) -> None:
    specials = ("<think>", "</think>", *tiny_gguf.CHATML)
    base = encoded_base.base(tiny_gguf.bpe_model(tmp_path / "model.gguf", specials=specials))
    rows = [row("Why?", completion="So </think>.", reasoning="Hm.", shape="instruction")]
    (found,) = made(base, None, rows, recipe("", {"format": "reasoning"})).rows
    tags = [base.ids(tag)[0] for tag in ("<think>", "</think>")]
    assert [found.completion.count(tag) for tag in tags] == [1, 1]


def test_overlong_rows_are_dropped_with_their_length(smol: Base, desk: Domain) -> None:
    rows = [row("short", "INFO"), row("long " * 200, "INFO", 2)]
    found = made(smol, desk, rows, max_tokens=128)
    assert [one.origin for one in found.rows] == ["rows.csv:1"]
    (lost,) = found.lost
    assert lost.origin == "rows.csv:2" and lost.text.startswith("long long")
    assert lost.reason.startswith("dropped: ") and lost.reason.endswith("tokens, and data.max_tokens is 128")


@pytest.mark.parametrize("text", ["long words here " * 100, "你好世界🙂" * 150, "x" * 3000, "ab \n" * 500])
def test_overlong_texts_are_cut_and_answers_never(smol: Base, desk: Domain, text: str) -> None:
    found = made(smol, desk, [row(text, "INFO")], max_tokens=128, overlong="truncate")
    (kept,) = found.rows
    assert spelt(smol, kept.completion) == '{"label": "INFO"}<|im_end|>'
    rendered = spelt(smol, kept.prompt)
    assert rendered.startswith(smol.prompt(desk.prompt(""))[:-40])
    left = rendered.split("<|im_start|>user\n")[1].split("<|im_end|>")[0]
    assert text.startswith(left) and left
    longer = smol.prompt_ids(desk.prompt(text[: len(left) + 8]))
    assert len(kept.prompt) + len(kept.completion) <= 128 < len(longer) + len(kept.completion) + 8
    (lost,) = found.lost
    assert f"cut to {len(left):,} of its {len(text):,} characters" in lost.reason


def test_a_text_of_megabytes_is_cut_without_being_tokenised_whole(
    smol: Base, desk: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []
    whole = type(smol).ids
    monkeypatch.setattr(type(smol), "ids", lambda self, text: lengths.append(len(text)) or whole(self, text))
    found = made(smol, desk, [row("word " * 200_000, "INFO")], max_tokens=256, overlong="truncate")
    assert len(found.rows) == 1
    assert sum(length > 100_000 for length in lengths) <= 2


def test_what_cannot_be_cut_enough_is_dropped(smol: Base, desk: Domain) -> None:
    found = made(smol, desk, [row("long " * 100, "INFO")], max_tokens=40, overlong="truncate")
    assert found.rows == ()
    assert found.lost[0].reason.endswith("and what would be left of its text is too little")


def test_the_bases_context_is_a_limit_too(desk: Domain, embedded_gguf: Path) -> None:
    found = made(encoded_base.base(embedded_gguf, context=64), desk, [row("long " * 100, "INFO")])
    assert "and the context of SmolLM2-135M-Instruct" in found.lost[0].reason


def test_an_empty_answer_teaches_nothing_and_is_lost(smol: Base) -> None:
    rows = [row("Why?", completion="  \n", shape="instruction"), row("Why?", number=2, shape="instruction")]
    found = made(smol, None, rows)
    assert [one.reason for one in found.lost] == [
        "its answer is empty, so that nothing of it is learnt",
        "it cannot be expressed: it has no answer",
    ]


def test_rows_for_other_stages_are_no_loss(smol: Base, desk: Domain) -> None:
    rows = [
        row("a", "INFO"),
        row("b", shape="thumb", completion='{"label": "INFO"}', thumb=False),
        row("c", shape="feedback", incorrect_labels=("INFO",)),
        row("d", shape="feedback", correct_labels=("INFO", "RESET")),
        row("e", shape="correction", completion='{"label": "RESET"}', rejected="no"),
    ]
    found = made(smol, desk, rows)
    assert [one.label for one in found.rows] == ["INFO", "INFO", "RESET", "RESET"]
    assert [said(smol, one) for one in found.rows] == ["INFO", "INFO", "RESET", "RESET"]
    assert found.lost == ()
    assert "2 rows say nothing that sft learns from and are left to other stages" in found.notes


def test_weights_are_one_on_average(smol: Base, desk: Domain) -> None:
    rows = [row(f"text {at}", "INFO" if at % 10 else "FRAUD") for at in range(40)]

    def weights(domain: Domain, name: str) -> dict[str, float]:
        found = made(smol, domain, rows, recipe(stage={"loss": {"weights": name}})).rows
        assert sum(one.weight for one in found) == pytest.approx(len(found))
        return {one.label: one.weight for one in found}

    assert weights(desk, "none") == {"INFO": 1.0, "FRAUD": 1.0}
    balanced = weights(desk, "balanced")
    assert balanced["FRAUD"] == pytest.approx(9 * balanced["INFO"])
    fraud, *others = desk.described.labels
    weighed = desk.described.model_copy(update={"labels": (fraud.model_copy(update={"weight": 3.0}), *others)})
    pack = weights(replace(desk, described=weighed), "pack")
    assert pack["FRAUD"] == pytest.approx(3 * pack["INFO"])


def test_weights_without_labels_are_an_error(smol: Base) -> None:
    given = recipe("", {"loss": {"weights": "balanced"}})
    with pytest.raises(InputError, match='loss.weights = "balanced" needs a domain with labels'):
        made(smol, None, [row("Why?", completion="So.", shape="instruction")], given)


def test_too_many_lost_rows_are_an_error_that_lists_them(smol: Base, desk: Domain) -> None:
    rows = [row(f"short {at}", "INFO", at) for at in range(1, 71)] + [row("long " * 200, "INFO", at) for at in range(71, 101)]
    given = recipe(max_tokens=128)
    found = made(smol, desk, rows, given)
    with pytest.raises(InputError) as caught:
        encode.check(given, found, len(rows))
    assert caught.value.what.startswith(
        "30 of 100 rows would be cut, dropped or teach nothing, and data.lost = 0.01 allows 1.0%: rows.csv:71: dropped: "
    )
    assert "rows.csv:90" in caught.value.what and "rows.csv:91" not in caught.value.what
    assert caught.value.what.endswith("and 10 more")
    assert caught.value.fix == 'raise data.max_tokens or data.overlong = "truncate", or set data.lost = 0.3'
    assert len(found.lost) == 30
    encode.check(recipe(max_tokens=128, lost=0.3), found, len(rows))
    with pytest.raises(InputError, match="70 rows are left to learn from, and 71 are needed"):
        encode.check(recipe(max_tokens=128, lost=0.3), found, len(rows), 71)


def test_one_lost_row_in_a_hundred_is_allowed(smol: Base, desk: Domain) -> None:
    rows = [row(f"short {at}", "INFO", at) for at in range(99)] + [row("long " * 200, "INFO", 99)]
    found = made(smol, desk, rows, max_tokens=128)
    encode.check(recipe(), found, 100)
    with pytest.raises(InputError):
        encode.check(recipe(), found, 99)


def test_nothing_left_is_an_error(smol: Base, desk: Domain) -> None:
    with pytest.raises(InputError, match="0 rows are left to learn from, and 1 are needed; give more rows"):
        encode.check(recipe(), made(smol, desk, []), 0)


def test_lengths_and_totals(smol: Base, desk: Domain) -> None:
    found = made(smol, desk, [row("word " * count, "INFO") for count in range(1, 41)])
    assert found.lengths == tuple(len(one.prompt) + len(one.completion) for one in found.rows)
    assert found.tokens == sum(found.lengths)
    assert found.answer_tokens == sum(len(one.completion) for one in found.rows)
    assert (found.quantiles()["0"], found.quantiles()["1"]) == (min(found.lengths), max(found.lengths))
    bins = found.histogram(7)
    assert len(bins) <= 7 and sum(count for _, _, count in bins) == 40
    assert bins[0][0] == min(found.lengths) and bins[-1][1] > max(found.lengths)
    assert (Encoded(()).quantiles(), Encoded(()).histogram()) == ({}, [])


def test_pairs_have_the_prompts_of_sft_and_end(smol: Base, desk: Domain) -> None:
    rows = [
        row("a", shape="correction", completion='{"label": "RESET"}', rejected="I think RESET."),
        row("b", shape="preference", completion="better", rejected="worse"),
        row("c", shape="feedback", correct_labels=("INFO",), incorrect_labels=("RESET", "FRAUD")),
        row("d", "INFO"),
        row("e", shape="thumb", completion="x", thumb=True),
        row("f", shape="preference", completion="same", rejected="same", number=9),
    ]
    given = recipe(stage={"kind": "dpo"})
    found = encode.pairs(given, given.stages[0], desk, smol, rows)
    assert [(one["chosen"], one["rejected"]) for one in found.lines] == [
        ('{"label": "RESET"}<|im_end|>', "I think RESET.<|im_end|>"),
        ("better<|im_end|>", "worse<|im_end|>"),
        ('{"label": "INFO"}<|im_end|>', '{"label": "RESET"}<|im_end|>'),
        ('{"label": "INFO"}<|im_end|>', '{"label": "FRAUD"}<|im_end|>'),
    ]
    assert [(one.origin, one.reason) for one in found.lost] == [("rows.csv:9", "its two answers are the same")]
    assert "2 rows say nothing that dpo learns from and are left to other stages" in found.notes
    line = found.lines[0]
    (other,) = made(smol, desk, [row("a", "RESET")]).rows
    assert (line["prompt_ids"], line["chosen_ids"]) == (list(other.prompt), list(other.completion))
    assert line["prompt"] == smol.prompt(desk.prompt("a"))
    assert spelt(smol, tuple(line["rejected_ids"])) == line["rejected"]


def test_judged_answers_are_thumbs_and_both_sides_of_pairs(smol: Base) -> None:
    rows = [
        row("a", shape="thumb", completion="yes", thumb=True),
        row("b", shape="thumb", completion="no", thumb=False),
        row("c", shape="correction", completion="right", rejected="wrong"),
        row("d", shape="instruction", completion="unjudged"),
    ]
    given = recipe("", {"kind": "kto"})
    found = encode.unpaired(given, given.stages[0], None, smol, rows)
    judged = [(one["completion"].removesuffix("<|im_end|>"), one["label"]) for one in found.lines]
    assert judged == [("yes", True), ("no", False), ("right", True), ("wrong", False)]
    assert found.lines[0]["prompt_ids"] == smol.prompt_ids([Message("user", "a")], None)
    assert all(one["completion_ids"][-1] in smol.stop_ids for one in found.lines)
    assert found.lost == ()


def test_the_longer_answer_of_a_pair_decides_what_is_too_long(smol: Base) -> None:
    rows = [row("a", shape="preference", completion="short", rejected="long " * 100)]
    given = recipe("", {"kind": "dpo"}, max_tokens=64)
    found = encode.pairs(given, given.stages[0], None, smol, rows)
    assert found.lines == () and found.lost[0].reason.startswith("dropped: ")


def test_a_base_that_would_never_stop_is_refused(smol: Base, desk: Domain) -> None:
    with pytest.raises(InputError, match=r"an answer would end with '<\|endless\|>', at which SmolLM2.* does not stop"):
        made(replace(smol, end="<|endless|>"), desk, [row("x", "INFO")])


def test_characters_that_the_vocabulary_cannot_spell_are_counted(tmp_path: Path) -> None:
    base = encoded_base.base(tiny_gguf.spm_model(tmp_path / "model.gguf", template=SPM_TEMPLATE, bytes_too=False))
    base.tokenizer.unk_token = "<unk>"
    found = made(base, None, [row("замок", completion="ключ", shape="instruction")])
    assert found.notes == (
        "1 answers hold characters that the vocabulary cannot spell",
        "1 prompts hold characters that the vocabulary does not know",
    )


def test_a_template_that_shows_old_answers_otherwise_is_told(smol: Base, tmp_path: Path) -> None:
    assert encode.preflight(smol) == ()
    template = "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{{ eos_token }}{% endfor %}assistant: "
    spaced = encoded_base.base(tiny_gguf.bpe_model(tmp_path / "model.gguf", template=template))
    other = replace(spaced, end=spaced.tokenizer.eos_token)
    assert encode.preflight(other) == (
        "the chat template shows earlier answers of a conversation otherwise than a new one is written",
    )


def test_encode_gives_each_stage_what_it_needs(smol: Base, desk: Domain) -> None:
    from types import SimpleNamespace

    rows = (row("a", "INFO"), row("b", shape="correction", completion='{"label": "INFO"}', rejected="no"))
    found = {}
    for kind in ("sft", "dpo", "kto"):
        given = recipe(stage={"kind": kind})
        work = SimpleNamespace(recipe=given, stage=given.stages[0], domain=desk, base=smol, material=SimpleNamespace(train=rows))
        found[kind] = encode.encode(work)
    assert [len(found["sft"].rows), len(found["dpo"].lines), len(found["kto"].lines)] == [2, 1, 2]
