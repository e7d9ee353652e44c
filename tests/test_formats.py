"""Training formats: each shape of row as the lines that trainers read, with the domain's own prompt to the letter."""

import json
from pathlib import Path

import pytest
from dataset_packs import intent_pack, scam_pack

from data.chat import Message
from data.datasets.formats import FORMATS, Formatter, formatted
from data.datasets.rows import Origin, Row
from data.domains import Domain
from data.errors import NotFound

HERE = Origin("rows.jsonl", 1)


def labelled(text: str = "Pay with a gift card.", label: str = "scam", **more) -> Row:
    return Row("label", text, HERE, label=label, **more)


@pytest.fixture
def scams(tmp_path: Path) -> Domain:
    return scam_pack(tmp_path)


@pytest.fixture
def intents(tmp_path: Path) -> Domain:
    return intent_pack(tmp_path)


def prompt_of(domain: Domain, text: str, contract: str = "") -> list[dict]:
    return [message.to_dict() for message in domain.prompt(text, contract)]


def test_every_format_has_a_line_that_says_what_it_is() -> None:
    assert set(FORMATS) == {
        "rows", "multi_task", "chain_of_thought", "instruction", "chat", "intent_v1", "intent_v2", "preference", "unpaired",
    }  # fmt: skip
    assert all(said and "\n" not in said for said in FORMATS.values())


def test_an_unknown_format_names_those_there_are() -> None:
    with pytest.raises(NotFound, match="chain_of_thought"):
        Formatter(None, "alpaca")


def test_prompt_and_completion_of_a_domain_are_those_of_serving_to_the_letter(scams: Domain) -> None:
    output = {"risk": "high", "label": "scam"}
    (line,) = formatted(labelled(output=output), scams, "instruction")
    assert line == {
        "prompt": prompt_of(scams, "Pay with a gift card."),
        "completion": [{"role": "assistant", "content": scams.completion(output)}],
    }
    assert line["completion"][0]["content"] == '{"label": "scam", "risk": "high"}'


def test_a_row_with_a_label_alone_gets_what_all_examples_of_its_label_agree_on(scams: Domain) -> None:
    formatter = Formatter(scams, "chat")
    (line,) = formatter.express(labelled()).lines
    assert json.loads(line["completion"][0]["content"]) == {"label": "scam", "risk": "high"}
    assert formatter.completed == {"risk": 1}


def test_a_row_is_not_completed_where_the_examples_of_its_label_differ(tmp_path: Path) -> None:
    examples = [{"text": f"{risk} {n}", "output": {"label": "scam", "risk": risk}} for risk in ("low", "high") for n in range(2)]
    found = Formatter(scam_pack(tmp_path, examples), "chat").express(labelled())
    assert found.lines == ()
    assert found.reason == "it has no risk"


def test_multi_task_classifies_explains_and_extracts(scams: Domain) -> None:
    row = labelled(reasoning="It asks for a “gift card”. Label: scam", reasoning_source="given")
    classify, explain, extract = formatted(row, scams, "multi_task")
    assert classify["prompt"] == prompt_of(scams, row.text)
    assert explain["prompt"][-1]["content"].startswith("Why is this text scam?")
    assert explain["prompt"][-1]["content"].endswith(row.text)
    assert explain["completion"] == [{"role": "assistant", "content": row.reasoning}]
    assert json.loads(extract["completion"][0]["content"]) == [{"indicator": "gift_card_payment", "quote": "gift card"}]


def test_multi_task_of_a_text_with_braces_does_not_break(scams: Domain) -> None:
    row = labelled("{label} {text} gift card {0}", reasoning="So it is.")
    _, explain, extract = formatted(row, scams, "multi_task")
    assert explain["prompt"][-1]["content"].endswith(row.text)
    assert extract["prompt"][-1]["content"].endswith(row.text)


def test_multi_task_of_a_text_without_signs_teaches_that_there_are_none(scams: Domain) -> None:
    *_, extract = formatted(labelled("See you at noon", "legitimate"), scams, "multi_task")
    assert extract["completion"][0]["content"] == "[]"


def test_chain_of_thought_reasons_first_then_answers(scams: Domain) -> None:
    row = Row("instruction", "What is 2 + 2?", HERE, completion="4", reasoning="Two and two are four.")
    (line,) = formatted(row, None, "chain_of_thought")
    assert line["completion"][0]["content"] == "<think>\nTwo and two are four.\n</think>\n\n4"
    assert (
        Formatter(None, "chain_of_thought").express(Row("instruction", "x", HERE, completion="4")).reason == "it has no reasoning"
    )


def test_chain_of_thought_uses_the_contract_that_reasons(intents: Domain) -> None:
    row = Row("label", "my accounts", HERE, output={"intent": "list", "clear": True}, reasoning="They say my.")
    (line,) = formatted(row, intents, "chain_of_thought")
    assert line["prompt"] == prompt_of(intents, "my accounts", "v2")
    assert line["completion"][0]["content"] == (
        '<reasoning>They say my.</reasoning>\n<intent_ir>{"intent": "list", "clear": true}</intent_ir>'
    )


def test_both_intent_contracts_use_their_own_prompts(intents: Domain) -> None:
    row = Row("label", "my accounts", HERE, output={"intent": "list", "clear": True}, reasoning="They say my.")
    (first,) = formatted(row, intents, "intent_v1")
    (second,) = formatted(row, intents, "intent_v2")
    assert first["completion"][0]["content"] == '{"intent": "list", "clear": true}'
    assert first["prompt"] != second["prompt"]
    assert "<reasoning>" in second["prompt"][0]["content"]
    assert second["completion"][0]["content"] == intents.completion(row.output, row.reasoning, "v2")


def test_intent_v2_needs_reasoning_and_intents_need_a_contract(intents: Domain) -> None:
    row = Row("label", "my accounts", HERE, output={"intent": "list", "clear": True})
    assert Formatter(intents, "intent_v2").express(row).reason == "it has no reasoning"
    with pytest.raises(NotFound, match="output contract"):
        Formatter(None, "intent_v1")


def test_a_conversation_keeps_its_turns_and_the_domain_speaks_first(scams: Domain) -> None:
    turns = (Message("system", "old"), Message("user", "hello"), Message("assistant", "hi", thinking="greeting"))
    row = Row("chat", "and now?", HERE, before=turns, completion="now")
    (line,) = formatted(row, None, "chat")
    assert [message["role"] for message in line["prompt"]] == ["system", "user", "assistant", "user"]
    assert all("thinking" not in message for message in line["prompt"])
    assert Formatter(None, "instruction").express(row).reason == "it has turns before its question"
    (own,) = formatted(labelled(before=turns), scams, "chat")
    assert [message["content"] for message in own["prompt"]][1:] == ["hello", "hi", "Pay with a gift card."]
    assert own["prompt"][0]["content"] == scams.instruction()


def test_preferences_come_from_pairs_corrections_and_judged_labels(scams: Domain) -> None:
    pair = Row("preference", "Why?", HERE, completion="because", rejected="dunno")
    assert list(formatted(pair, None, "preference")) == [
        {
            "prompt": [{"role": "user", "content": "Why?"}],
            "chosen": [{"role": "assistant", "content": "because"}],
            "rejected": [{"role": "assistant", "content": "dunno"}],
        }
    ]
    judged = Row("feedback", "Pay now", HERE, correct_labels=("scam",), incorrect_labels=("phishing", "legitimate"))
    found = list(formatted(judged, scams, "preference"))
    assert [json.loads(line["rejected"][0]["content"])["label"] for line in found] == ["phishing", "legitimate"]
    assert all(json.loads(line["chosen"][0]["content"])["label"] == "scam" for line in found)
    assert Formatter(scams, "preference").express(labelled()).reason


def test_unpaired_rows_say_whether_the_answer_was_good(scams: Domain) -> None:
    thumb = Row("thumb", "Why?", HERE, completion="dunno", thumb=False)
    (line,) = formatted(thumb, None, "unpaired")
    assert line["label"] is False
    assert set(line) == {"prompt", "completion", "label"}
    correction = Row("correction", "Why?", HERE, completion="because", rejected="dunno")
    assert [one["label"] for one in formatted(correction, None, "unpaired")] == [True, False]
    judged = Row("feedback", "Pay now", HERE, correct_labels=("scam",), incorrect_labels=("legitimate",))
    assert [one["label"] for one in formatted(judged, scams, "unpaired")] == [True, False]
    assert Formatter(None, "unpaired").express(Row("instruction", "x", HERE, completion="y")).reason == "nobody judged its answer"


def test_feedback_gives_one_positive_row_a_right_label_and_none_of_wrong_ones(scams: Domain) -> None:
    both = Row("feedback", "Pay now", HERE, correct_labels=("scam", "phishing"), incorrect_labels=("legitimate",))
    found = [json.loads(line["completion"][0]["content"])["label"] for line in formatted(both, scams, "chat")]
    assert found == ["scam", "phishing"]
    wrong = Row("feedback", "Pay now", HERE, incorrect_labels=("legitimate",))
    assert Formatter(scams, "chat").express(wrong).reason == "it says only which labels are wrong"


def test_an_answer_that_was_judged_bad_is_never_trained_on() -> None:
    thumb = Row("thumb", "Why?", HERE, completion="dunno", thumb=False)
    assert list(formatted(thumb, None, "chat")) == []
    assert Formatter(None, "chat").express(thumb).reason == "its answer was judged bad"


def test_an_answer_given_as_json_text_is_read_as_the_output(scams: Domain) -> None:
    row = Row("instruction", "Pay now", HERE, completion='{"risk": "high", "label": "scam"}')
    (line,) = formatted(row, scams, "instruction")
    assert line["completion"][0]["content"] == '{"label": "scam", "risk": "high"}'
    for broken in ("{", "[1]", '{"label": "scam"', "scam"):
        assert not Formatter(scams, "instruction").express(Row("instruction", "Pay", HERE, completion=broken)).lines


def test_rows_stay_as_they_are() -> None:
    row = labelled()
    assert list(formatted(row, None, "rows")) == [row.to_dict()]
    assert Row.from_dict(row.to_dict()) == row
