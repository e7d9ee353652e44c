"""Go templates without Go: what the interpreter writes was compared with Go 1.26 through Ollama 0.32.15's own template package."""

from datetime import date
from typing import Any

import pytest

from data.chat import Message, ToolCall
from data.errors import ModelInvalid
from export._template import ollama
from export._template.functions import Record
from export._template.go import GoTemplate

VALUES = {
    "Name": "Ann", "Empty": "", "Zero": 0, "Three": 3, "Yes": True, "List": ["a", "b", "c"], "None": [], "Map": {"b": 2, "a": 1},
    "Accent": "né", "Half": 1.5, "Message": Record(Role="user", Content="Hi"),
}  # fmt: skip
TALK = [Message("system", "S1"), Message("user", "Q1"), Message("user", "Q2"), Message("assistant", "A1"), Message("user", "Q3")]

WRITES = {
    "{{ .Name }}|{{.Nothing}}|{{ .Three }}{{ .Yes }}{{ .Half }}": "Ann|<no value>|3true1.5",
    "a {{- .Name -}} \n b {{ `{{` }}{{ \"\\n\\u00e9\\\"\" }}": 'aAnnb {{\né"',
    "x{{/* note */}}y {{- /* cut */ -}} z": "xyz",
    "{{3}}{{-3}} {{- 3}}": "3-33",
    "{{ if .Empty }}1{{ else if .Zero }}2{{ else if .Name }}3{{ else }}4{{ end }}": "3",
    "{{ if and .Name .Yes }}1{{ end }}{{ if or .Empty .Zero }}2{{ else }}3{{ end }}{{ not .None }}": "13true",
    "{{ and .Name .Empty .Bogus.Deep }}|{{ or .Empty .Name .Bogus.Deep }}": "|Ann",
    "{{ range .List }}{{ . }}{{ $.Name }},{{ end }}": "aAnn,bAnn,cAnn,",
    "{{ range $i, $x := .List }}{{ $i }}{{ $x }}{{ if eq (len (slice $.List $i)) 1 }}!{{ end }}{{ end }}": "0a1b2c!",
    "{{ range .None }}x{{ else }}none{{ end }}{{ range .Missing }}x{{ else }}none{{ end }}": "nonenone",
    "{{ range $key, $value := .Map }}{{ $key }}{{ $value }}{{ end }}{{ range 3 }}{{ . }}{{ end }}": "a1b2012",
    "{{ range .List }}{{ if eq . \"b\" }}{{ continue }}{{ end }}{{ . }}{{ end }}{{ range 9 }}{{ break }}{{ end }}": "ac",
    "{{ range .List }}{{ . }}{{ range $.None }}{{ else }}{{ break }}{{ end }}!{{ end }}": "a!b!c!",
    "{{ range .List }}{{ . }}{{ range $.None }}{{ else }}{{ continue }}{{ end }}!{{ end }}": "abc",
    "{{ $x := 1 }}{{ range .List }}{{ $x = . }}{{ $x := 2 }}{{ end }}{{ $x }}": "c",
    "{{ $last := \"\" }}{{ range $last = .List }}{{ end }}{{ $last }}": "c",
    "{{ if $x := .Name }}{{ $x }}{{ end }}{{ with .Message }}{{ .Content }}{{ else }}-{{ end }}": "AnnHi",
    "{{ with .Empty }}1{{ else with .Name }}{{ . }}{{ end }}": "Ann",
    "{{ (index .List 1) }}{{ (index .Map \"a\") }}{{ index .Name 0 }}{{ with . }}{{ .Name }}{{ end }}": "b165Ann",
    "{{ len .Accent }}{{ slice .Name 1 2 }}{{ slice .Accent 0 1 }}{{ len (slice .Accent 2) }}": "3nn1",
    "{{ slice .Accent 0 2 }}{{ slice .Accent 2 }}": "né",
    "{{ eq .Name \"Bob\" \"Ann\" }}{{ ne 1 2 }}{{ lt 1 2 }}{{ ge \"b\" \"a\" }}{{ eq .Missing \"x\" }}": "truetruetruetruefalse",
    "{{ printf \"%s-%d %v%%\" .Name .Three .Yes }}{{ .Name | printf \"%q\" | len }}": "Ann-3 true%5",
    "{{ print 1 2 \"x\" 3 }}{{ println .Name 1 }}": "1 2x3Ann 1\n",
    "{{ json .Map }}{{ json \"<é>\" }}{{ json .Message }}": '{"a":1,"b":2}"\\u003cé\\u003e"{"Role":"user","Content":"Hi"}',
    "{{ currentDate }} {{ yesterdayDate \"any\" }}": "2026-01-01 2025-12-31",
}  # fmt: skip


@pytest.mark.parametrize(("source", "text"), WRITES.items())
def test_a_template_writes_what_go_writes(source: str, text: str) -> None:
    assert GoTemplate(source).render(VALUES, date(2026, 1, 1)) == text


REFUSED = [
    "{{ .Name", "{{ end }}", "{{ if .Name }}", "{{ else }}", "{{ if }}x{{ end }}", "{{ range .List }}{{ else if .Name }}{{ end }}",
    "{{ break }}", "{{ define \"x\" }}{{ end }}", "{{ template \"x\" }}", "{{ \"\\q\" }}", "{{ \"open }}", "{{ /* open }}", "{{}}",
    "{{ .Name .Name }}", "{{ .Name | .Name }}", "{{ (.Name }}", "{{ 010 }}", "{{ 'x' }}", "{{ nothing }}", "{{ $x }}", "{{ nil }}",
    "{{ $x = 1 }}", "{{ .Message.Bogus }}", "{{ .Name.Field }}", "{{ len 3 }}", "{{ index .List 9 }}", "{{ slice .Name 2 1 }}",
    "{{ slice .Accent 0 2 | len | slice }}", "{{ slice .Accent 2 3 }}", "{{ eq 1 \"1\" }}", "{{ eq 1 }}", "{{ lt .Yes .Yes }}",
    "{{ and }}", "{{ not }}", "{{ .List }}", "{{ .Message }}", "{{ printf \"%d\" .Name }}", "{{ printf \"%s\" }}",
    "{{ printf \"x\" 1 }}", "{{ printf 1 }}", "{{ range .Name }}{{ end }}", "{{ range $i, $x := 3 }}{{ end }}",
    "{{ if eq .Name \"x\" }}{{ else }}{{ else }}{{ end }}", "{{ .Name\x00 }}", "{{ 3abc }}", "{{ index .Missing 1 }}",
]  # fmt: skip


@pytest.mark.parametrize("source", REFUSED)
def test_what_go_refuses_or_is_not_covered_is_an_error_in_words(source: str) -> None:
    with pytest.raises(ModelInvalid) as refused:
        GoTemplate(source).render(VALUES)
    assert "Go template" in refused.value.what
    assert len(refused.value.what) < 300


ENDLESS = {
    "turns": "{{ range 99999999 }}{{ end }}",
    "turns in turns": "{{ range 5000 }}{{ range 5000 }}{{ end }}{{ end }}",
    "text": "{{ range 99999 }}{{ printf \"%s%s\" \"" + "x" * 2000 + "\" \"y\" }}{{ end }}",
    "doubling": "{{ $x := \"ab\" }}{{ range 64 }}{{ $x = printf \"%s%s\" $x $x }}{{ end }}",
    "parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "blocks": "{{ if 1 }}" * 5000 + "{{ end }}" * 5000,
    "size": "x" * (1 << 19),
}  # fmt: skip


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_a_hostile_template_comes_to_an_end_in_words(source: str) -> None:
    with pytest.raises(ModelInvalid):
        GoTemplate(source).render({})


def test_a_line_number_says_where_the_fault_is() -> None:
    with pytest.raises(ModelInvalid, match="line 3"):
        GoTemplate("a\n\n{{ if .X }}{{ .Y .Z }}{{ end }}")


def test_text_with_half_a_character_is_refused() -> None:
    with pytest.raises(ModelInvalid, match="half"):
        GoTemplate("{{ len .X }}").render({"X": "\ud800"})


RENDERED = {
    "{{ range .Messages }}[{{ .Role }}:{{ .Content }}]{{ end }}|{{ .System }}": (
        "[system:S1][user:Q1\n\nQ2][assistant:A1][user:Q3]|S1"
    ),
    "{{ .Think }}{{ .IsThinkSet }}{{ .Response }}{{ len .Tools }}{{ range .Messages }}{{ end }}": "falsefalse0",
    "<s>{{ .System }}</s>{{ .Prompt }}>{{ .Response }};rest": "<s>S1</s>Q1\n\nQ2>A1;rest<s></s>Q3>",
    "{{ .System }}:{{ .Prompt }}>": "S1:Q1\n\nQ2>A1:Q3>",
    "{{ .Prompt }}{{ if .Response }}>{{ .Response }}!{{ end }} end": "Q1\n\nQ2>A1! endQ3",
}  # fmt: skip


@pytest.mark.parametrize(("source", "text"), RENDERED.items())
def test_a_conversation_is_prepared_as_ollama_does(source: str, text: str) -> None:
    assert ollama.render(GoTemplate(source), TALK) == text


def test_calls_and_answers_of_tools_reach_the_template() -> None:
    source = (
        "{{ range .Messages }}{{ .Role }}{{ range .ToolCalls }}<{{ .Function.Name }}{{ json .Function.Arguments }}>{{ end }}"
        "{{ .ToolName }};{{ end }}"
    )
    call = Message("assistant", "", tool_calls=(ToolCall("add", {"b": 2, "a": 1}),))
    answers = [Message("tool", "3", tool_name="add"), Message("tool", "4", tool_name="sub")]
    assert ollama.render(GoTemplate(source), [call, *answers]) == 'assistant<add{"a":1,"b":2}>;tooladd;toolsub;'


def test_thinking_is_passed_on_as_it_was_asked_for() -> None:
    source = "{{ .Think }}{{ .IsThinkSet }}{{ range .Messages }}{{ .Thinking }}{{ end }}"
    talk = [Message("assistant", "x", thinking="hm")]
    asked: list[Any] = [ollama.render(GoTemplate(source), talk, think) for think in (None, True, False)]
    assert asked == ["falsefalsehm", "truetruehm", "falsetruehm"]


def test_an_else_after_the_response_is_refused_since_ollama_stops_on_it() -> None:
    with pytest.raises(ModelInvalid, match=r"\.Response"):
        ollama.render(GoTemplate("{{ if .Prompt }}{{ .Response }}{{ else }}x{{ end }}"), TALK)
