"""The Go templates of modelfiles/ write the prompts of the published Jinja ones; those lie in chat_templates/, see its README."""

from collections.abc import Callable, Iterator
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path

import pytest
import tiny_gguf

from data.chat import Message
from data.config import LlamaCppSettings
from data.errors import InputError, ModelInvalid
from export import modelfile
from export._template import families as files
from router.engines._llamacpp import header, sandbox
from router.engines._llamacpp.model import LoadedModel
from router.engines._llamacpp.template import CHATML, PLAIN, ChatTemplate

FOLDER = Path(__file__).parent / "chat_templates"
LLAMA, S = ("<|begin_of_text|>", "<|eot_id|>"), ("<s>", "</s>")
PUBLISHED = {
    "gemma2": ("<bos>", "<eos>"), "llama3": LLAMA, "llama3.2": LLAMA, "mistral-v0.3": S, "phi3": ("<s>", "<|endoftext|>"),
    "qwen2.5": ("", "<|im_end|>"), "qwen3": ("", "<|im_end|>"), "zephyr": S,
}  # fmt: skip
FAMILIES = {family.name: family for family in modelfile.families()}
OVERRULED = {"llama3.2", "mistral-v0.3", "mistral-v0.3-untrimmed", "qwen2.5", "qwen3"}


def published(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def renders(jinja: str, bos: str = "", eos: str = "", **more: bool) -> Callable[[list[Message]], str]:
    template = ChatTemplate(jinja, (), bos, eos, "test")
    return lambda messages: template.render([message.to_dict() for message in messages], **more)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_template_finds_its_family_over_all_shapes(name: str) -> None:
    bos, eos = PUBLISHED[name]
    found = modelfile.template_for(published(name), renders(published(name), bos, eos), bos=bos, adds_bos=bool(bos))
    assert found is not None
    assert (found.family, found.refused) == (name, ())
    assert found.stops == FAMILIES[name].stops


def test_the_embedded_model_finds_its_family_with_its_own_system_prompt(embedded_gguf: Path) -> None:
    jinja = str(header.check(embedded_gguf).metadata["tokenizer.chat_template"])
    found = modelfile.template_for(jinja, renders(jinja, "<|im_start|>", "<|im_end|>"), bos="<|im_start|>")
    assert found is not None
    assert found.family == "smollm2"
    assert "SmolLM" in modelfile.prompt(found.template, [Message("user", "Hi")])


OWN = {
    "chatml": CHATML,
    "plain": PLAIN,
    "phi2": FAMILIES["phi2"].reference,
    "mistral-v0.3-untrimmed": published("mistral-v0.3").replace("|trim", ""),
}


@pytest.mark.parametrize("name", OWN)
def test_what_pointsman_writes_itself_and_other_forms_find_their_template(name: str) -> None:
    bos, eos = S if name.startswith("mistral") else ("", "")
    found = modelfile.template_for(OWN[name], renders(OWN[name], bos, eos), bos=bos, adds_bos=bool(bos))
    assert found is not None
    assert found.family == name


def test_every_family_is_proven_by_one_of_these_tests() -> None:
    assert set(FAMILIES) == {*PUBLISHED, *OWN, "smollm2"}


CHANGED = {
    "a word": CHATML.replace("assistant\\n", "assistant \\n"),
    "trimmed": CHATML.replace("message.content", "message.content | trim"),
    "system dropped": CHATML.replace("{% for message in messages %}", "{% for message in messages if message.role != 'system' %}"),
    "empty text dropped": CHATML.replace("messages %}{{", "messages if message.content %}{{"),
    "braces": CHATML.replace("message.content", "message.content | replace('{', '(')"),
    "last answer": CHATML.replace("{% if add_generation_prompt %}", "{% if messages[-1].role != 'assistant' %}"),
    "refuses all": "{{ raise_exception('no') }}",
}


@pytest.mark.parametrize("jinja", CHANGED.values(), ids=CHANGED)
def test_a_template_that_differs_in_one_thing_finds_none(jinja: str) -> None:
    assert modelfile.template_for(jinja, renders(jinja)) is None


def test_differing_names_the_shapes() -> None:
    chatml = FAMILIES["chatml"].template
    assert modelfile.differing(chatml, renders(CHATML)) == ()
    assert modelfile.differing(chatml, renders(CHANGED["trimmed"])) == ("edge blanks", "code and quotes", "long")
    assert modelfile.differing("{{ .Bogus.Deep }}", renders(CHATML)) == tuple(modelfile.SHAPES)


def test_a_prompt_never_begins_twice() -> None:
    own = CHATML.replace("{% for message", "{{ bos_token }}{% for message", 1)
    chatml = FAMILIES["chatml"].template
    twice = f"<s>{chatml}"
    assert modelfile.differing(chatml, renders(own, "<s>"), bos="<s>", adds_bos=True) == ()
    assert len(modelfile.differing(chatml, renders(own, "<s>"), bos="<s>", adds_bos=False)) == len(modelfile.SHAPES)
    assert len(modelfile.differing(twice, renders(own, "<s>"), bos="<s>", adds_bos=True)) == len(modelfile.SHAPES)
    doubled = own.replace("{{ bos_token }}", "{{ bos_token }}{{ bos_token }}")
    assert modelfile.template_for(doubled, renders(doubled, "<s>"), bos="<s>", adds_bos=True) is None


@pytest.mark.parametrize("name", FAMILIES)
def test_no_template_writes_the_token_for_the_beginning(name: str) -> None:
    for messages in (modelfile.SHAPES["system"], modelfile.SHAPES["one question"]):
        text = modelfile.prompt(FAMILIES[name].template, messages)
        assert not any(bos in text for bos in ("<s>", "<bos>", "<|begin_of_text|>", "<|endoftext|>"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedModel]:
    path = tiny_gguf.spm_model(tmp_path_factory.mktemp("bos") / "spm.gguf", template=published("mistral-v0.3"))
    loaded = LoadedModel(path, LlamaCppSettings(context=512, threads=1, batch=64))
    yield loaded
    loaded.close()


def test_tokenised_the_two_prompts_are_equal_with_one_token_for_the_beginning(model: LoadedModel) -> None:
    bos = model.vocab.text(model.vocab.bos)
    render = renders(published("mistral-v0.3"), bos, "</s>")
    for messages in (shape for name, shape in modelfile.SHAPES.items() if name != "control tokens"):
        own = model.vocab.tokenise(render(list(messages)).removeprefix(bos))
        tokens = model.vocab.tokenise(modelfile.prompt(FAMILIES["mistral-v0.3"].template, messages))
        assert tokens == own
        assert [model.vocab.bos, *tokens].count(model.vocab.bos) == 1
    assert model.vocab.adds_bos


def test_llama_knows_every_month_and_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    for month in range(1, 13):
        today = date(2026, month, month * 2)
        monkeypatch.setattr(
            sandbox, "datetime", type("Fixed", (), {"now": lambda today=today: datetime(today.year, today.month, today.day)})
        )
        assert modelfile.differing(
            FAMILIES["llama3.2"].template, renders(published("llama3.2"), *LLAMA), bos=LLAMA[0], adds_bos=True, today=today
        ) == ()  # fmt: skip


def test_qwen3_without_thinking_opens_the_answer_with_empty_thinking() -> None:
    render = renders(published("qwen3"), think=False)
    for messages in modelfile.SHAPES.values():
        assert modelfile.prompt(FAMILIES["qwen3"].template, messages, think=False) == render(list(messages))
    assert modelfile.prompt(FAMILIES["qwen3"].template, messages, think=True) != render(list(messages))


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_template_that_ollama_will_overrule_says_so(name: str) -> None:
    bos, eos = PUBLISHED[name]
    jinja = published(name)
    found = modelfile.template_for(jinja, renders(jinja, bos, eos), bos=bos, adds_bos=bool(bos))
    assert found is not None
    assert FAMILIES[name].tools == (name in OVERRULED)
    if name != "llama3.2":  # the copy in chat_templates/ has no tools
        assert ("0.30.0" in found.note) == (name in OVERRULED)


def test_phi_is_limited_to_what_its_rope_factors_were_trained_for() -> None:
    assert FAMILIES["phi3"].context == 4096
    assert [name for name, family in FAMILIES.items() if family.context] == ["phi3"]


def test_the_shapes_are_twelve_and_take_turns() -> None:
    assert len(modelfile.SHAPES) == 12
    for messages in modelfile.SHAPES.values():
        assert all(one.role != other.role for one, other in pairwise(messages))
        assert [message.role for message in messages].index("user") <= 1


def test_long_messages_are_trimmed_in_a_moment() -> None:
    blanks = " " * 3000
    text = modelfile.prompt(FAMILIES["llama3"].template, [Message("user", blanks + "x" * 100_000 + blanks)])
    assert text.count("x") == 100_000
    assert "  " not in text


@pytest.mark.parametrize("text", ["name = 1", "", "name = 'x'\nbogus = 1", "\x00", "name = 'UPPER'"])
def test_a_wrong_family_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"x\.toml"):
        files.read(file)


def test_a_family_whose_template_does_not_parse_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("name='x'\ntitle='x'\nmodels=[]\nstops=[]\ntemplate='{{ if }}'", encoding="utf-8")
    with pytest.raises(ModelInvalid, match="Go template"):
        files.read(file)
