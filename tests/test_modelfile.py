"""Modelfiles: what is written is read back unchanged, and what the grammar cannot carry is never written.

What READ and REFUSED expect was compared with ParseFile of Ollama 0.32.15.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.chat import Message, ToolCall
from data.errors import InputError
from export import modelfile
from export._template import parameters, reader
from export.modelfile import Parts

FULL = Parts(
    "model-Q8_0.gguf",
    {"num_ctx": 4096, "temperature": 0.0, "top_k": 40, "use_mmap": True, "stop": ("<|im_end|>", "\nUser:", '"')},
    'Say "yes" or \'no\' {{ .X }}.\n  indented 🙂 é\n# no comment\n"ends in quotes"',
    "{{- range .Messages }}<|{{ .Role }}|>\n{{ .Content }}\n{{ end }}",
    "Apache License\n\n   Version 2.0",
    (Message("system", "s: t"), Message("user", ' "Hi" '), Message("assistant", "")),
    note="Made for a test.",
)


def beside(text: str) -> tuple[tuple[str, str], ...]:
    return reader.commands(f"FROM x\n{text}")[1:]


def test_everything_that_is_composed_is_read_back_unchanged() -> None:
    text = modelfile.compose(FULL)
    assert modelfile.parse(text) == replace(FULL, note="")
    assert text.startswith("# Made for a test.\nFROM ./model-Q8_0.gguf\nTEMPLATE ")
    assert 'PARAMETER stop "<|im_end|>"\n' in text
    assert "PARAMETER temperature 0.0\n" in text


def test_the_least_modelfile_says_whose_template_is_used() -> None:
    text = modelfile.compose(Parts("model.gguf"))
    assert "TEMPLATE" not in "".join(line for line in text.splitlines() if not line.startswith("#"))
    assert "# No TEMPLATE" in text
    assert modelfile.parse(text) == Parts("model.gguf")
    assert modelfile.compose(Parts(from_="smollm2:135m")) == "FROM smollm2:135m\n"


def test_an_adapter_goes_with_a_word_on_versions() -> None:
    text = modelfile.compose(Parts(from_="base", adapter_file="adapter.gguf"))
    assert "ADAPTER ./adapter.gguf\n" in text
    assert "0.34.0" in text
    assert modelfile.parse(text) == Parts(from_="base", adapter_file="adapter.gguf")


PIECES = [
    '"',
    '""',
    '"""',
    "\n",
    " ",
    "\t",
    "#",
    "a",
    "FROM x",
    "SYSTEM ",
    "é",
    "👩",
    "'",
    "{{ . }}",
    "\\n",
    "x: y",
    "日本",
    "0",
    "`",
]
BAD = ["\r", "\u200d", "\u00a0", "\u3000", "\u2028", "\x1b", "\x0b", "\x00", "\ufeff", "\ud800", "\u202e"]
texts = st.lists(st.sampled_from(PIECES + BAD), max_size=8).map("".join) | st.text(max_size=20)
kind_texts = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@given(
    kind_texts | texts, kind_texts | texts, kind_texts, st.lists(texts.filter(bool) | kind_texts.filter(bool), max_size=2), texts
)
def test_any_text_is_carried_exactly_or_refused(system: str, template: str, content: str, stops: list[str], note: str) -> None:
    parts = Parts(
        "m.gguf", {"seed": -1, **({"stop": tuple(stops)} if stops else {})}, system, template or None, template,
        (Message("user", content),), note=note,
    )  # fmt: skip
    left_out = modelfile.uncarried(parts)
    if left_out:
        with pytest.raises(InputError, match="create API"):
            modelfile.compose(parts)
    found = modelfile.parse(modelfile.compose(parts, api=True))
    assert (found.model_file, found.parameters["seed"]) == ("m.gguf", -1)
    assert found.system == ("" if "system" in left_out else system)
    assert (found.template or "") == ("" if "template" in left_out else template)
    assert found.messages == (() if "messages" in left_out else parts.messages)
    assert found.licence == ("" if "licence" in left_out else template)
    assert set(found.parameters.get("stop", ())) <= set(stops)
    body = modelfile.request(parts)
    assert body.get("system", "") == system
    assert body["messages"] == [{"role": "user", "content": content}]


UNCARRIED = {
    "a line ends in three quotes": 'def f():\n    """doc"""\n    pass',
    "the same with blanks": 'x """  \ny',
    "joined emoji": "👩\u200d👩\u200d👧",
    "no-break space": "a\u00a0b",
    "wide space": "a\u3000b",
    "carriage return": "a\r\nb",
    "escape": "\x1b[31m",
    "nul": "\x00",
    "bidirectional": "\u202ea",
    "half a character": "\ud800",
    "byte order mark": "a\ufeffb",
}


@pytest.mark.parametrize("text", UNCARRIED.values(), ids=UNCARRIED)
@pytest.mark.parametrize("part", ["system", "template", "licence"])
def test_what_cannot_be_carried_goes_through_the_api_and_says_so(text: str, part: str) -> None:
    parts = replace(FULL, **{part: text})
    assert modelfile.uncarried(parts) == (part,)
    with pytest.raises(InputError, match=part):
        modelfile.compose(parts)
    written = modelfile.compose(parts, api=True)
    assert f"# The {part} cannot be written in a Modelfile" in written
    assert modelfile.parse(written) == replace(FULL, note="", **{part: None if part == "template" else ""})
    assert modelfile.request(parts)["license" if part == "licence" else part] == text


CARRIED = [
    '"',
    '""',
    '"""',
    ' " ',
    '"lead',
    'ends "',
    "  edges \n",
    "\n\n",
    "# x",
    "FROM y",
    "a: b",
    "'",
    "\\n",
    '"a"\nb',
    'a """ b',
]


@pytest.mark.parametrize("text", CARRIED)
def test_quotes_and_edges_that_can_be_carried_are(text: str) -> None:
    parts = Parts("m.gguf", {"stop": (text,)}, text, text, text, (Message("user", text),))
    assert modelfile.uncarried(parts) == ()
    assert modelfile.parse(modelfile.compose(parts)) == parts


@pytest.mark.parametrize("later", [False, True])
def test_characters_younger_than_what_go_knows_are_never_trusted(later: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_LATER_UNICODE", later)
    assert all(map(reader.printable, "a é日本\u0301🙂🧑"))
    assert not any(map(reader.printable, "\U0001fae9\u2ffc\u200d\u00a0\t"))


def test_one_bad_stop_leaves_the_others() -> None:
    parts = Parts("m.gguf", {"stop": ("a", "b\u200d", "c")})
    text = modelfile.compose(parts, api=True)
    assert modelfile.parse(text).parameters == {"stop": ("a", "c")}
    assert "# The stop cannot be written" in text
    assert modelfile.request(parts)["parameters"] == {"stop": ["a", "b\u200d", "c"]}


def test_messages_that_a_modelfile_has_no_words_for_go_through_the_api() -> None:
    call = Message("assistant", "", tool_calls=(ToolCall("add", {"a": 1}, id="7"),))
    parts = replace(FULL, messages=(Message("user", "Hi"), call, Message("tool", "2", tool_name="add")))
    assert modelfile.uncarried(parts) == ("messages",)
    assert modelfile.request(parts)["messages"][1:] == [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},
        {"role": "tool", "content": "2", "tool_name": "add"},
    ]
    assert modelfile.uncarried(replace(FULL, messages=(Message("assistant", "x", thinking="hm"),))) == ("messages",)


@pytest.mark.parametrize("note", ["a\nSYSTEM evil", "a\rSYSTEM evil", "a\r\nFROM evil", "\x1b[31m\u202eSYSTEM evil", "\n\n"])
def test_a_note_never_leaves_its_comment(note: str) -> None:
    text = modelfile.compose(Parts("m.gguf", note=note))
    assert modelfile.parse(text) == Parts("m.gguf")
    assert "\x1b" not in text
    assert "\r" not in text


READ = {
    "SYSTEM a b  \n": [("system", "a b")],
    "system a": [("system", "a")],
    "  \t# c\n\n SYSTEM\ta # b": [("system", "a # b")],
    'SYSTEM """\na\n\n  b"""\n': [("system", "\na\n\n  b")],
    'SYSTEM "a"\n': [("system", "a")],
    'SYSTEM "Hi" said Bob\nSYSTEM "x"': [("system", 'Hi" said Bob\nSYSTEM "x')],
    'SYSTEM """a\\n"b""""': [("system", 'a\\n"b"')],
    "SYSTEM 'a'": [("system", "'a'")],
    "SYSTEM a\u200db\u00a0c\u3000d\x1be": [("system", "abcde")],
    'SYSTEM "a\r\nb"\r\nSYSTEM c\r': [("system", "a\r\nb"), ("system", "c")],
    "SYSTEM \nSYSTEM b": [("system", ""), ("system", "b")],
    "PARAMETER temperature 1 # hot": [("temperature", "1 # hot")],
    'PARAMETER stop "\n"': [("stop", "\n")],
    "PARAMETER  x": [("", "x")],
    "PARAMETER system x": [("system", "x")],
    "MESSAGE user a: b": [("message", "user: a: b")],
    'MESSAGE assistant """x\n"""': [("message", "assistant: x\n")],
    "REQUIRES 0.30.0\nADAPTER ./a\nRENDERER r": [("requires", "0.30.0"), ("adapter", "./a"), ("renderer", "r")],
    "From y": [("model", "y")],
}


@pytest.mark.parametrize(("text", "found"), READ.items())
def test_a_modelfile_is_read_as_ollama_reads_it(text: str, found: list[tuple[str, str]]) -> None:
    assert list(beside(text)) == found


REFUSED = {
    'SYSTEM\n"""a"""': "line 3",
    "BOGUS x": "BOGUS",
    "SYSTEM": "no value",
    "PARAMETER": "no value",
    "PARAMETER a-b 1": "unexpected",
    "MESSAGE tool x": "tool",
    "MESSAGE  user x": "roles",
    "MESSAGE user": "no value",
    'SYSTEM """a': "not closed",
    'SYSTEM "a': "not closed",
    'SYSTEM """x """\ny': "no value",
    "\x1b[31m x": "unexpected",
    "1 x": "1",
}


@pytest.mark.parametrize(("text", "words"), REFUSED.items())
def test_what_ollama_refuses_is_refused_with_the_line(text: str, words: str) -> None:
    with pytest.raises(InputError, match="line") as refused:
        beside(text)
    assert words in refused.value.what
    assert refused.value.what.isprintable()


@pytest.mark.parametrize(
    ("text", "words"),
    {
        "": "no FROM",
        "SYSTEM x": "no FROM",
        "FROM a\nFROM b": "second FROM",
        "FROM a\nRENDERER x": "RENDERER",
        "FROM a\nPARSER x": "PARSER",
        "FROM a\nDRAFT x": "DRAFT",
        "FROM a\nREQUIRES 1": "REQUIRES",
        "FROM a\nPARAMETER model b": "second FROM",
        "FROM a\nPARAMETER num_cxt 5": "num_cxt",
        "FROM a\nPARAMETER num_ctx 4k": "4k",
        "FROM a\nPARAMETER num_ctx 1_000": "1_000",
        "FROM a\nPARAMETER num_ctx ١": "num_ctx",
        "FROM a\nPARAMETER num_ctx 99999999999999999999": "num_ctx",
        "FROM a\nPARAMETER temperature 1 # hot": "hot",
        "FROM a\nPARAMETER temperature nan": "nan",
        "FROM a\nPARAMETER temperature 1e999": "temperature",
        "FROM a\nPARAMETER use_mmap yes": "yes",
        "FROM a\nPARAMETER mirostat 1": "mirostat",
        "FROM a\nPARAMETER typical_p 1": "typical_p",
    }.items(),
)
def test_a_modelfile_that_no_export_has_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        modelfile.parse(text)
    assert words in refused.value.what


def test_a_huge_modelfile_is_refused_and_a_large_one_read_at_once() -> None:
    with pytest.raises(InputError, match="characters"):
        modelfile.parse("FROM x\n" + "# " * reader.LARGEST_CHARS)
    value = "line\n" * 50_000
    same = modelfile.parse(f'FROM x\nSYSTEM """{value}"""').system == value
    assert same  # without pytest's comparison of the two, which takes minutes


def test_several_licences_and_late_parameters_count_as_in_ollama() -> None:
    parts = modelfile.parse(
        "FROM x\nLICENSE a\nLICENSE b\nPARAMETER seed 1\nPARAMETER seed +2\nSYSTEM a\nSYSTEM b\nPARAMETER use_mmap T"
    )
    assert (parts.licence, parts.parameters, parts.system) == ("a\n\nb", {"seed": 2, "use_mmap": True}, "b")
    assert modelfile.parse("FROM ./sub/x.gguf").from_ == "./sub/x.gguf"
    assert modelfile.parse("FROM /etc/passwd").model_file == ""


@pytest.mark.parametrize(
    "parts",
    [
        Parts(), Parts("a.gguf", from_="b"), Parts("../a.gguf"), Parts("a b.gguf"), Parts("/a"), Parts(".a"), Parts("a\nSYSTEM x"),
        Parts(from_="a b"), Parts(from_="./x"), Parts(from_="a\nSYSTEM x"), Parts("a.gguf", adapter_file="x/y"),
    ],
)  # fmt: skip
def test_names_that_a_modelfile_cannot_hold_are_refused(parts: Parts) -> None:
    with pytest.raises(InputError):
        modelfile.compose(parts)
    with pytest.raises(InputError):
        modelfile.request(parts)


WRONG: list[dict[str, Any]] = [
    {"num_ctx": 1.5}, {"num_ctx": True}, {"num_ctx": "4096"}, {"num_ctx": 1 << 40}, {"temperature": math.nan},
    {"temperature": math.inf}, {"temperature": True}, {"temperature": "0"}, {"use_mmap": 1}, {"stop": "x"}, {"stop": ("",)},
    {"stop": (1,)}, {"bogus": 1}, {"mirostat": 1}, {"system": ("x",)}, {"Temperature": 0.5},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_parameter_that_ollama_does_not_know_or_of_another_type_is_refused(wrong: dict[str, Any]) -> None:
    for make in (modelfile.compose, modelfile.request):
        with pytest.raises(InputError, match=next(iter(wrong))):
            make(Parts("m.gguf", wrong))


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(1 << 31) + 1, (1 << 31) - 1))
def test_numbers_are_read_back_unchanged(temperature: float, seed: int) -> None:
    parts = Parts("m.gguf", {"temperature": temperature, "seed": seed})
    assert modelfile.parse(modelfile.compose(parts)).parameters == parts.parameters


def test_a_whole_number_is_a_temperature_too() -> None:
    assert modelfile.parse(modelfile.compose(Parts("m.gguf", {"temperature": 1}))).parameters == {"temperature": 1.0}


def test_parameters_are_those_that_the_model_needs() -> None:
    found = modelfile.parameters_for(stops=("<|im_end|>", "", "<|im_end|>", "</s>"), context_tokens=8192, classifier=True)
    assert found == {"num_ctx": 4096, "temperature": 0.0, "stop": ("<|im_end|>", "</s>")}
    assert modelfile.parameters_for(stops=(), context_tokens=2048) == {"num_ctx": 2048}
    assert modelfile.parameters_for(stops=(), context_tokens=131072, wanted_tokens=32768) == {"num_ctx": 32768}
    assert modelfile.parameters_for(stops=(), context_tokens=131072, rope_tokens=4096, wanted_tokens=32768) == {"num_ctx": 4096}
    with pytest.raises(InputError, match="0 tokens"):
        modelfile.parameters_for(stops=(), context_tokens=0)


def test_only_phi_has_a_limit_by_its_rope_factors() -> None:
    key = "phi3.rope.scaling.original_context_length"
    assert modelfile.rope_limit({"general.architecture": "phi3", key: 4096}) == 4096
    assert modelfile.rope_limit({"general.architecture": "phi3"}) == 0
    assert modelfile.rope_limit({"general.architecture": "phi3", key: "x"}) == 0
    assert modelfile.rope_limit({"general.architecture": "llama", "llama.rope.scaling.original_context_length": 8192}) == 0


def test_the_request_holds_every_part_as_it_is() -> None:
    body = modelfile.request(replace(FULL, adapter_file="a.gguf"), {FULL.model_file: "sha256:1", "a.gguf": "sha256:2"})
    assert body == {
        "files": {"model-Q8_0.gguf": "sha256:1"},
        "adapters": {"a.gguf": "sha256:2"},
        "template": FULL.template,
        "system": FULL.system,
        "license": FULL.licence,
        "parameters": {**FULL.parameters, "stop": list(FULL.parameters["stop"])},
        "messages": [{"role": message.role, "content": message.content} for message in FULL.messages],
    }
    assert modelfile.request(Parts("m.gguf")) == {}
    assert modelfile.request(Parts(from_="base")) == {"from": "base"}


def test_every_parameter_of_ollama_has_a_type() -> None:
    assert len(parameters.TYPES) == 19
    assert not parameters.GONE & parameters.TYPES.keys()
