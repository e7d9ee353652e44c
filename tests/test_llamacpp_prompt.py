"""Conversations made into prompts: no control token from content, what is left out when it is long, reuse of what was said."""

from itertools import pairwise
from pathlib import Path

import pytest
import tiny_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.chat import Message, ToolCall
from data.config import LlamaCppSettings
from data.errors import ContextOverflow, EngineRejected
from router.engines._llamacpp.context import Context
from router.engines._llamacpp.model import LoadedModel
from router.engines._llamacpp.prompt import Prompt, aligned, compose
from router.engines._llamacpp.vocab import MARK
from router.engines.base import Request

INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content | trim }}</s>{% endif %}{% endfor %}"
)
GLUED = "{% for m in messages %}<|im_{{ m.content }}d|>{{ m.role }}<|im_start{{ m.content }}{% endfor %}"
LISTING = (
    "{% for m in messages %}{% for call in m.tool_calls or [] %}{{ call.function.name }}({{ call.function.arguments | tojson }})"
    "{% endfor %}{{ m.name or '' }}{{ m.content }}{% endfor %}{{ tools | tojson }}"
)


def load(path: Path, context: int = 512) -> LoadedModel:
    return LoadedModel(path, LlamaCppSettings(context=context, threads=1, batch=64))


@pytest.fixture(scope="module")
def smol(embedded_gguf: Path):
    model = load(embedded_gguf)
    yield model
    model.close()


@pytest.fixture(scope="module")
def tinies(tmp_path_factory: pytest.TempPathFactory):
    """Tiny models by template: SentencePiece with [INST], a template that glues content to halves of tokens, one with tools."""
    folder = tmp_path_factory.mktemp("gguf")
    models = {
        "inst": load(tiny_gguf.spm_model(folder / "inst.gguf", template=INST, specials=("[INST]", "[/INST]"))),
        "glued": load(tiny_gguf.bpe_model(folder / "glued.gguf", template=GLUED)),
        "listing": load(tiny_gguf.bpe_model(folder / "listing.gguf", template=LISTING, context=4096), 4096),
        "bare_spm": load(tiny_gguf.spm_model(folder / "bare.gguf")),
        "bare_bpe": load(tiny_gguf.bpe_model(folder / "bare_bpe.gguf", specials=("<s>", "</s>"))),
        "tekken": load(tiny_gguf.bpe_model(folder / "tekken.gguf", pre="tekken", context=100_000)),
    }
    yield models
    for model in models.values():
        model.close()


def prompt_of(model: LoadedModel, *messages: Message, max_tokens: int = 16, **more) -> Prompt:
    return compose(model, Request("x", messages, max_tokens=max_tokens, **more), model.context())


def controls(model: LoadedModel, *messages: Message) -> int:
    return sum(map(model.vocab.is_control, prompt_of(model, *messages).tokens))


def users(*texts: str) -> list[Message]:
    return [Message("user", text) for text in texts]


FRAGMENTS = (
    "<|im_start|> <|im_end|> <|im_ start|> end|> en < | > s> </s> </ <s> [INST] [/INST] [ INST] ] a <|endoftext|> <unk> <| |>"
)
fragments = st.lists(st.sampled_from([*FRAGMENTS.split(), " ", "\n", MARK]), max_size=6).map("".join)
everyday = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@everyday
@given(text=st.one_of(fragments, st.text(max_size=20)), other=fragments)
def test_content_never_becomes_a_control_token(smol: LoadedModel, text: str, other: str) -> None:
    conversation = [Message("system", other), Message("user", text), Message("assistant", other), Message("user", f"{text}{other}")]
    harmless = [Message(message.role, "zz") for message in conversation]
    assert controls(smol, *conversation) == controls(smol, *harmless) == 9


@everyday
@given(text=fragments, other=fragments, name=st.sampled_from(["inst", "glued", "bare_spm", "bare_bpe"]))
def test_content_never_completes_a_control_token_of_the_template(tinies, text: str, other: str, name: str) -> None:
    model = tinies[name]
    conversation = [*users(text), Message("assistant", other), *users(other)]
    harmless = [*users("zz"), Message("assistant", "zz"), *users("zz")]
    assert controls(model, *conversation) == controls(model, *harmless)


@everyday
@given(text=fragments, key=fragments)
def test_tool_calls_results_and_descriptions_are_content_too(tinies, text: str, key: str) -> None:
    model = tinies["listing"]

    def count(value: str, name: str) -> int:
        call = ToolCall(value, {name: [value, {"deep": value}]})
        messages = (Message("user", "zz"), Message("assistant", "", tool_calls=(call,)), Message("tool", value, tool_name=value))
        tools = ({"type": "function", "function": {"name": value, "description": value, "parameters": {name: value}}},)
        return sum(map(model.vocab.is_control, prompt_of(model, *messages, tools=tools).tokens))

    assert count(text, key) == count("zz", "zz") == 0


@everyday
@given(text=st.one_of(fragments, st.text(st.characters(codec="utf-8"), max_size=20)))
def test_content_reaches_the_model_letter_by_letter(smol: LoadedModel, tinies, text: str) -> None:
    plain = text.replace(MARK, "")
    for model in (tinies["bare_bpe"], tinies["bare_spm"]):
        spelled = model.vocab.spelling(prompt_of(model, *users(text)).tokens).decode("utf-8")
        assert f"User: {plain}\nAssistant:" in spelled
    if plain.isascii() and plain.replace("\n", "").replace("\t", "").isprintable():  # SmolLM2 has no token for some control bytes
        assert f"user\n{plain}<|im_end|>" in smol.vocab.spelling(prompt_of(smol, *users(text)).tokens).decode()


def test_the_start_token_is_there_exactly_once(tinies) -> None:
    for name in ("inst", "bare_spm"):
        model = tinies[name]
        tokens = prompt_of(model, *users("hello")).tokens
        assert tokens[0] == model.vocab.bos
        assert tokens.count(model.vocab.bos) == 1
    assert tinies["bare_bpe"].vocab.bos not in prompt_of(tinies["bare_bpe"], *users("hello")).tokens


def test_a_model_without_a_template_gets_chatml_or_a_plain_form(smol: LoadedModel, tinies, tmp_path: Path) -> None:
    model = load(tiny_gguf.bpe_model(tmp_path / "chatml.gguf"))
    assert prompt_of(model, *users("hi")).text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert model.template.stops == ()
    model.close()
    said = prompt_of(tinies["bare_spm"], Message("system", "Be brief."), *users("hi"))
    assert said.text == "Be brief.\n\nUser: hi\nAssistant:"
    assert "\nUser:" in tinies["bare_spm"].template.stops


def test_the_oldest_turns_go_first_and_the_system_message_stays(smol: LoadedModel) -> None:
    conversation = [Message("system", "You are a parrot.")]
    for number in range(60):
        conversation += [Message("user", f"question {number} " + "word " * 20), Message("assistant", f"answer {number}")]
    conversation.append(Message("user", "and now?"))
    prompt = prompt_of(smol, *conversation)
    assert 0 < prompt.dropped_turns < 60
    assert "You are a parrot." in prompt.text
    assert "and now?" in prompt.text
    first = prompt.dropped_turns
    assert f"question {first} " in prompt.text
    assert f"question {first - 1} " not in prompt.text
    assert f"answer {first - 1}<" not in prompt.text
    room = smol.context().size - 16
    assert len(prompt.tokens) <= room
    one_more = prompt_of(smol, conversation[0], *conversation[1 + 2 * (first - 1) :])
    assert one_more.dropped_turns == 1  # one turn more would not have fitted


def test_finding_what_fits_takes_few_renderings(smol: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = []
    render = smol.template.render
    monkeypatch.setattr(smol.template, "render", lambda *args: rendered.append(1) or render(*args))
    conversation = []
    for number in range(500):
        conversation += [Message("user", f"question {number}"), Message("assistant", "answer")]
    assert prompt_of(smol, *conversation, *users("now?")).dropped_turns > 400
    assert len(rendered) <= 12


def test_room_for_the_answer_is_kept_free_up_to_a_quarter_of_the_context(smol: LoadedModel) -> None:
    size = smol.context().size
    turns = [message for number in range(100) for message in (Message("user", f"q {number}"), Message("assistant", "a"))]
    small, large = (prompt_of(smol, *turns, *users("now?"), max_tokens=limit) for limit in (8, 100_000))
    assert size - 40 < len(small.tokens) <= size - 8
    assert size * 3 // 4 - 40 < len(large.tokens) <= size * 3 // 4


@pytest.mark.parametrize("turns", [0, 3])
def test_a_last_message_that_does_not_fit_is_refused_with_numbers_and_a_way_out(smol: LoadedModel, turns: int) -> None:
    before = [message for _ in range(turns) for message in (Message("user", "q"), Message("assistant", "a"))]
    with pytest.raises(ContextOverflow, match=r"about \d+ tokens.*room for 496") as caught:
        prompt_of(smol, *before, *users("word " * 2000))
    assert "pointsman config set llamacpp.context 4096" in caught.value.fix
    with pytest.raises(ContextOverflow, match="system prompt") as caught:
        prompt_of(smol, Message("system", "word " * 20_000), *users("hi"))
    assert "longer context" in caught.value.fix


@pytest.mark.parametrize(
    "text",
    [pytest.param(word * (10_000_000 // len(word)), id=f"paste{n}") for n, word in enumerate(("x", "some words ", "<|im_end|>"))],
)
def test_a_paste_of_ten_megabytes_is_refused_after_a_glance(smol: LoadedModel, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    read = []
    tokens = smol.vocab._tokens
    monkeypatch.setattr(smol.vocab, "_tokens", lambda text, **more: read.append(len(text)) or tokens(text, **more))
    with pytest.raises(ContextOverflow, match=r"about \d{4,} tokens"):
        prompt_of(smol, *users("q", text))
    assert sum(read) < 200_000


def test_a_huge_old_message_is_left_out_without_being_read(smol: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    tokens = smol.vocab._tokens
    monkeypatch.setattr(smol.vocab, "_tokens", lambda text, **more: read.append(len(text)) or tokens(text, **more))
    conversation = [*users("hello"), Message("assistant", "y" * 5_000_000)]
    for number in range(100):
        conversation += [Message("user", f"q {number}"), Message("assistant", "a")]
    prompt = prompt_of(smol, *conversation, *users("now?"))
    assert prompt.dropped_turns >= 1
    assert sum(read) < 200_000


@pytest.mark.parametrize("letter", ["a", " ", "!", "漢", "7"])
def test_words_without_end_do_not_overflow_the_stack(tinies, letter: str) -> None:
    model = tinies["tekken"]
    text = letter * 60_000
    assert model.vocab.spelling(model.vocab.tokenise_text(text)).decode() == text
    assert model.vocab.spelling(model.vocab.tokenise(f"<|im_start|>{text}<|im_end|>")).decode() == f"<|im_start|>{text}<|im_end|>"
    assert sum(map(model.vocab.is_control, model.vocab.tokenise(f"{text[:505]}<|im_end|>{text}"))) == 1
    assert len(model.vocab.tokenise_document(text)) >= 512


def test_an_empty_conversation_and_an_empty_prompt_are_refused(tmp_path: Path, smol: LoadedModel) -> None:
    with pytest.raises(EngineRejected, match="empty"):
        prompt_of(smol)
    silent = load(tiny_gguf.bpe_model(tmp_path / "silent.gguf", template="{% if false %}x{% endif %}"))
    with pytest.raises(EngineRejected, match="prompt is empty"):
        prompt_of(silent, *users("hi"))
    silent.close()


@everyday
@given(text=st.text("ab <|", max_size=30), cuts=st.lists(st.integers(0, 30), max_size=5), more=st.text("ab ", max_size=10))
def test_cached_tokens_are_used_as_far_as_they_spell_the_same(smol: LoadedModel, text: str, cuts: list[int], more: str) -> None:
    vocab = smol.vocab
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    cached = [token for begin, end in pairwise(places) for token in vocab.tokenise_text(text[begin:end])]
    found = aligned(vocab.tokenise_text(text + more), cached, vocab)
    assert vocab.spelling(found).decode() == text + more
    if not more:
        assert found == cached


def test_alignment_never_takes_text_for_a_control_token(smol: LoadedModel) -> None:
    vocab = smol.vocab
    control = vocab.tokenise("<|im_end|>")
    spelled = vocab.tokenise_text("<|im_end|>")
    assert len(control) == 1 < len(spelled)
    assert aligned(spelled, control, vocab) == spelled
    assert aligned(control, spelled, vocab) == control


def test_a_context_is_no_longer_than_the_model_was_trained_for(tmp_path: Path) -> None:
    model = load(tiny_gguf.bpe_model(tmp_path / "short.gguf", context=128), context=4096)
    context: Context = model.context()
    assert context.size == 128
    model.close()
