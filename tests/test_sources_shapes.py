"""Records of every input shape become the row they say, and nothing else comes through."""

import json
from pathlib import Path

import pytest

from data.chat import Message, ToolCall
from data.datasets.rows import Origin, Refused, Row
from data.datasets.sources import open_source


def of(tmp_path: Path, *records: object, **how) -> list[Row | Refused]:
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    return list(open_source(str(path), **how).rows())


USER, ASSISTANT = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}
CASES: dict[str, tuple[dict, dict]] = {
    "alpaca": (
        {"instruction": "Add", "input": "1 2", "output": "3"},
        {"shape": "instruction", "text": "Add\n\n1 2", "completion": "3"},
    ),
    "alpaca without input": (
        {"instruction": "Add", "input": "", "output": "3"},
        {"shape": "instruction", "text": "Add", "completion": "3"},
    ),
    "alpaca with history": (
        {"instruction": "And?", "output": "4", "history": [["Add", "3"]], "system": "Count."},
        {"text": "And?", "before": (Message("system", "Count."), Message("user", "Add"), Message("assistant", "3"))},
    ),
    "question and answer": ({"question": "Why?", "answer": "So."}, {"shape": "instruction", "text": "Why?", "completion": "So."}),
    "context": ({"question": "Who?", "context": "Ann.", "answer": "Ann"}, {"text": "Who?\n\nAnn."}),
    "conversational prompt": ({"prompt": [USER], "completion": [ASSISTANT]}, {"text": "Why?", "completion": "Because."}),
    "chat": (
        {"messages": [{"role": "system", "content": "Be brief."}, USER, ASSISTANT, {"role": "user", "content": "And?"}]},
        {"shape": "chat", "text": "Why?", "completion": "Because.", "before": (Message("system", "Be brief."),)},
    ),
    "chat of parts with thinking": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}, ASSISTANT | {"thinking": "Hm."}]},
        {"text": "Why?", "completion": "Because.", "reasoning": "Hm.", "reasoning_source": "given"},
    ),
    "chat with tools before": (
        {
            "messages": [
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 2}'}}]},
                {"role": "tool", "content": "4", "tool_name": "add"},
                {"role": "assistant", "content": "4"},
                USER,
                ASSISTANT,
            ]
        },
        {
            "text": "Why?",
            "before": (
                Message("user", "2+2?"),
                Message("assistant", "", tool_calls=(ToolCall("add", {"a": 2}),)),
                Message("tool", "4", tool_name="add"),
                Message("assistant", "4"),
            ),
        },
    ),
    "chat as a text in a table": ({"messages": json.dumps([USER, ASSISTANT])}, {"text": "Why?", "completion": "Because."}),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
        {"shape": "chat", "text": "Why?", "completion": "Because."},
    ),
    "preference": (
        {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
        {"shape": "preference", "text": "Why?", "completion": "So.", "rejected": "No."},
    ),
    "preference of messages": (
        {"chosen": [USER, ASSISTANT], "rejected": [USER, ASSISTANT | {"content": "No."}]},
        {"shape": "preference", "text": "Why?", "completion": "Because.", "rejected": "No."},
    ),
    "preference with input and system": (
        {"system": "Be brief.", "instruction": "Add", "input": "1 2", "chosen": "3", "rejected": "4"},
        {"text": "Add\n\n1 2", "before": (Message("system", "Be brief."),), "completion": "3", "rejected": "4"},
    ),
    "preference by number": (
        {"input": "Why?", "output_1": "No.", "output_2": "So.", "label": 2},
        {"shape": "preference", "text": "Why?", "completion": "So.", "rejected": "No."},
    ),
    "thumb as label": (
        {"prompt": "Why?", "completion": "So.", "label": False},
        {"shape": "thumb", "text": "Why?", "completion": "So.", "thumb": False},
    ),
    "thumb": ({"question": "Why?", "answer": "So.", "thumb": "up"}, {"shape": "thumb", "thumb": True}),
    "thumb as rating": ({"question": "Why?", "response": "So.", "rating": "down"}, {"shape": "thumb", "thumb": False}),
    "thumb as number": ({"question": "Why?", "response": "So.", "rating": 1}, {"shape": "thumb", "thumb": True}),
    "correction": (
        {"question": "Why?", "answer": "No.", "correction": "So."},
        {"shape": "correction", "text": "Why?", "completion": "So.", "rejected": "No."},
    ),
    "original and corrected": (
        {"prompt": "Why?", "original": "No.", "corrected": "So."},
        {"shape": "correction", "completion": "So.", "rejected": "No."},
    ),
    "feedback": (
        {"text": "Win!", "correct_labels": ["spam"], "incorrect_labels": ["ham", "info"], "feedback": "A prize."},
        {"shape": "feedback", "correct_labels": ("spam",), "incorrect_labels": ("ham", "info"), "comment": "A prize."},
    ),
    "feedback as text": (
        {"text": "Win!", "correct_labels": '["a", "b"]', "incorrect_labels": "c; d", "feedback": None},
        {"correct_labels": ("a", "b"), "incorrect_labels": ("c", "d"), "comment": ""},
    ),
    "domain": (
        {"text": "Win!", "label": "spam", "output": {"risk": "high"}, "reasoning": "A prize."},
        {"shape": "label", "label": "spam", "output": {"risk": "high"}, "reasoning": "A prize.", "reasoning_source": "given"},
    ),
    "label with an answer as text": (
        {"text": "Win!", "label": "spam", "completion": "It is."},
        {"label": "spam", "completion": "It is."},
    ),
    "label with an answer as JSON text": ({"text": "Win!", "label": "spam", "output": '{"a": 1}'}, {"output": {"a": 1}}),
    "domain without label": ({"text": "Win!", "output": {"risk": "high"}}, {"shape": "label", "output": {"risk": "high"}}),
    "labelled text": ({"text": "Win!", "label": " spam "}, {"shape": "label", "text": "Win!", "label": "spam"}),
    "other names": ({"Sentence": "Win!", "Intent": "spam"}, {"shape": "label", "text": "Win!", "label": "spam"}),
    "message and class": ({"message": "Win!", "class": 3}, {"text": "Win!", "label": "3"}),
    "a list of one label": ({"text": "Win!", "labels": ["spam"]}, {"label": "spam"}),
    "split, group, time, licence": (
        {"text": "a", "split": "dev", "group": "g", "at": 5, "license": "MIT"},
        {"split": "validation", "group": "g", "at": 5.0, "origin": Origin("some.jsonl", 1, "MIT")},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_shape_becomes_its_row(tmp_path: Path, name: str) -> None:
    record, wanted = CASES[name]
    (row,) = of(tmp_path, record)
    assert isinstance(row, Row), row
    assert {key: getattr(row, key) for key in wanted} == wanted


def test_a_row_of_our_own_comes_back_as_it_was(tmp_path: Path) -> None:
    row = Row(
        "label",
        "Win!",
        Origin("log", 3, "MIT"),
        before=(Message("user", "x"),),
        output={"a": 1},
        correct_labels=("b",),
        thumb=True,
        at=2.0,
        split="test",
    )
    assert of(tmp_path, row.to_dict()) == [row]


def test_a_row_of_our_own_loses_an_absolute_path(tmp_path: Path) -> None:
    (row,) = of(tmp_path, {"shape": "label", "text": "a", "origin": {"source": "/home/ann/some.csv"}})
    assert row.origin.source == "some.csv"


def test_every_instance_of_an_instruction_is_a_row(tmp_path: Path) -> None:
    instances = [{"input": "1 2", "output": "3"}, {"input": "2 2", "output": "4"}]
    found = of(tmp_path, {"instruction": "Add", "instances": instances})
    assert [(one.text, one.completion) for one in found] == [("Add\n\n1 2", "3"), ("Add\n\n2 2", "4")]


def test_all_turns_give_a_row_for_each_answer(tmp_path: Path) -> None:
    second = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "So."}]
    found = of(tmp_path, {"messages": [USER, ASSISTANT, *second]}, turns="all")
    assert [(one.text, one.completion, len(one.before)) for one in found] == [("Why?", "Because.", 0), ("And?", "So.", 2)]


BAD: dict[str, tuple[object, str]] = {
    "no known shape": ({"foo": 1, "bar": 2}, "no known shape; its keys: foo, bar"),
    "no object": ([1, 2, 3], "is no object but list"),
    "a number": (5, "is no object but int"),
    "empty": ({}, "its keys: none"),
    "text is a number": ({"text": 5, "label": "a"}, "its text is a number, no text"),
    "text is null": ({"text": None, "label": "a"}, "no known shape"),
    "several labels": ({"text": "a", "label": ["x", "y"]}, "a list of 2, not one label"),
    "label is an object": ({"text": "a", "label": {"x": 1}}, "an object, not one label"),
    "foreign role": ({"messages": [{"role": "root", "content": "x"}, ASSISTANT]}, "the role 'root', which is none of system"),
    "role in capitals": ({"messages": [{"role": "SYSTEM", "content": "x"}, ASSISTANT]}, "the role 'SYSTEM'"),
    "role is a list": ({"messages": [{"role": ["system"], "content": "x"}, ASSISTANT]}, "none of system"),
    "foreign speaker": ({"conversations": [{"from": "evil", "value": "x"}]}, "the speaker 'evil'"),
    "no speaker": ({"messages": [{"content": "x"}]}, "neither role nor from"),
    "no answer": ({"messages": [USER]}, "no answer of the assistant"),
    "answer to nothing": ({"messages": [ASSISTANT]}, "stands nothing"),
    "answer to a tool": ({"messages": [USER, {"role": "tool", "content": "4"}, ASSISTANT]}, "stands tool"),
    "empty answer": ({"messages": [USER, ASSISTANT | {"content": " "}]}, "is empty"),
    "question is an object": ({"prompt": {"x": 1}, "completion": "b"}, "neither text nor a list of messages"),
    "messages are text": ({"messages": "hello"}, "no list of messages"),
    "message is text": ({"messages": ["hello"]}, "message 1 is no object"),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ASSISTANT]},
        "holds something that is no text",
    ),
    "tool call without name": (
        {"messages": [USER, ASSISTANT | {"tool_calls": [{"function": {}}]}]},
        "a tool call without a name",
    ),
    "different questions": (
        {"chosen": [USER, ASSISTANT], "rejected": [{"role": "user", "content": "What?"}, ASSISTANT]},
        "not to the same question",
    ),
    "neither up nor down": ({"prompt": "a", "completion": "b", "rating": 4}, "'4' is neither up nor down"),
    "no labels": ({"text": "a", "correct_labels": [], "incorrect_labels": []}, "neither correct nor incorrect labels"),
    "output is a list": ({"text": "a", "label": "b", "output": [1]}, "its output is a list, no object"),
    "foreign row": ({"shape": "evil", "text": "a", "origin": {"source": "x"}}, "the shape 'evil' is unknown"),
    "foreign role in a row": (
        {"shape": "chat", "text": "a", "origin": {"source": "x"}, "before": [{"role": "root", "content": "x"}]},
        "the role 'root' is unknown",
    ),
    "row of wrong types": ({"shape": "label", "text": 5, "origin": {"source": "x"}}, "text is no text"),
    "row without origin's source": ({"shape": "label", "text": "a", "origin": {}}, "is no row"),
    "row with a foreign key": ({"shape": "label", "text": "a", "origin": {"source": "x"}, "evil": 1}, "is no row"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_row_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    record, said = BAD[name]
    found = of(tmp_path, record, {"text": "still read", "label": "x"})
    assert isinstance(found[0], Refused)
    assert said in found[0].reason
    assert found[0].filter == "shape"
    assert isinstance(found[1], Row)
    assert len(found) == 2


def test_named_keys_that_a_record_lacks_are_named(tmp_path: Path) -> None:
    found = of(tmp_path, {"tweet": "a", "kind": "b"}, {"text": "c"}, text_column="tweet", label_column="kind")
    assert (found[0].text, found[0].label) == ("a", "b")
    assert found[1].reason == "has no 'tweet'; its keys: text"
