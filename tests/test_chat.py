"""The conversation format goes through JSON and back unchanged."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.chat import Message, ToolCall, Usage

calls = st.builds(ToolCall, st.text(), st.dictionaries(st.text(), st.integers() | st.text()), st.text())
messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    st.text(),
    st.text(),
    st.lists(calls).map(tuple),
    st.text(),
)


@given(messages)
def test_a_message_survives_json(message: Message) -> None:
    assert Message.from_dict(json.loads(json.dumps(message.to_dict()))) == message


def test_empty_fields_are_left_out() -> None:
    assert Message("user", "hi").to_dict() == {"role": "user", "content": "hi"}


def test_speed_counts_the_tokens_after_the_first() -> None:
    assert Usage(completion_tokens=11, ttft_s=1.0, total_s=3.0).tokens_per_s == pytest.approx(5.0)
    assert Usage(completion_tokens=1, ttft_s=1.0, total_s=3.0).tokens_per_s == 0.0
    assert Usage(dropped_turns=2).truncated
