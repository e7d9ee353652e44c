"""Chat templates: what published ones rely on, and hostile ones that must come to an end in words."""

import resource
from collections.abc import Iterator
from typing import Any

import pytest

from data.errors import EngineRejected, ModelInvalid
from router.engines._llamacpp.template import ChatTemplate

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "ü": "é<b>"}}}
TOOL = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {}}}


def template(source: str, specials: tuple[str, ...] = ()) -> ChatTemplate:
    return ChatTemplate(source, specials, "<s>", "</s>", "test.gguf")


def render(source: str, messages: list[dict[str, Any]] = TALK, **more: Any) -> str:
    return template(source).render(messages, **more)


PUBLISHED = {
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }}={{ m.content | trim }};{% endfor %}{{ eos_token }}": (
        "<s>system=Be brief.;user=Hi;</s>"
    ),
    "{%- for m in messages %}\n    {{- m.role }}\n{%- endfor %}": "systemuser",
    "{% for m in messages %}\n{{ m.role }}\n{% endfor %}": "system\nuser\n",
    "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% break %}{% endfor %}": "Hi",
    "{% generation %}{{ messages[-1].content }}{% endgeneration %}": "Hi",
    "{% set ns = namespace(n=0) %}{% for m in messages[::-1] %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}": "2",
    "{% macro say(m) %}[{{ m }}]{% endmacro %}{{ say(1) }}{{ messages | map(attribute='role') | join(',') }}": "[1]system,user",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ tools is none }}": "1True",
    "{% if messages[0].content is string and messages is not mapping %}{{ 'a' ~ 1 ~ [2] }}{% endif %}": "a1[2]",
    "{{ messages[1].content.split('i')[0].upper().strip() + 'x' * 3 }}{{ '%s-%02d' % ('a', 7) }}": "Hxxxa-07",
    "{% set x %}{{ messages[1].content }}!{% endset %}{{ x | trim }}{{ x is defined }}{{ y is defined }}": "Hi!TrueFalse",
    "{{ strftime_now('%Y')[:2] }}{{ '{}'.format(5) }}{{ add_generation_prompt }}": "205True",
    "{{ messages[0] | tojson }}": '{"role": "system", "content": "Be brief."}',
    "{% for k, v in messages[1] | items %}{{ k }}:{{ v }};{% endfor %}{% for k, v in messages[1].items() %}{{ k }}{% endfor %}": (
        "role:user;content:Hi;rolecontent"
    ),
    "{{ nothing }}{{ messages[0].nothing }}{{ messages[5] }}|": "|",
}


@pytest.mark.parametrize(("source", "text"), PUBLISHED.items())
def test_what_published_templates_use_works(source: str, text: str) -> None:
    assert render(source) == text


def test_tools_and_calls_arrive_in_the_shape_templates_expect() -> None:
    source = (
        "{{ tools[0].function.name }}"
        "{% for c in messages[0].tool_calls %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"
    )
    call = [{"role": "assistant", "content": "", "tool_calls": [CALL]}]
    assert render(source, call, tools=[TOOL]) == 'addadd{"a": 1, "ü": "é<b>"}'


def test_thinking_is_switched_only_when_asked() -> None:
    source = "{{ enable_thinking is defined }}{{ enable_thinking }}"
    assert [render(source, think=think) for think in (None, True, False)] == ["False", "TrueTrue", "TrueFalse"]
    assert template("<think>").thinks
    assert template("x", ("<think>", "</think>")).thinks
    assert not template("x").thinks


def test_a_template_that_wants_other_roles_is_asked_again() -> None:
    strict = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{{ m.role }}:{{ m.content }};{% endfor %}"
    )
    assert render(strict) == "user:Be brief.\n\nHi;"
    twice = [*TALK, {"role": "user", "content": "you?"}]
    assert render(strict, twice) == "user:Be brief.\n\nHi\n\nyou?;"
    assert TALK[1]["content"] == "Hi"


def test_what_a_template_refuses_is_told_in_its_words() -> None:
    with pytest.raises(EngineRejected, match="only odd days"):
        render("{{ raise_exception('only odd days\x1b[31m') }}")


HOSTILE = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('id') }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'role': 'x'}) }}",
    "{% set messages[0].role = 'x' %}",
    "{% include 'etc' %}",
    "{% import 'os' as os %}",
    "{{ lipsum(n=100000) }}",
    "{% for i in range(10 ** 9) %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}",
    "{% for i in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}x{% endmacro %}{{ f(40) }}",
    "{{ 'a' * 10 ** 12 }}",
    "{{ [0] * 10 ** 12 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{% set ns = namespace(n=99) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] | join %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x={}) %}{% for i in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x | tojson }}",
    "{{ '%9999999999d' % 1 }}",
    "{{ '%*d' % (999999999, 1) }}",
    "{{ '{:9999999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, 9999999999) }}",
    "{{ 'a'.center(9999999999) }}",
    "{{ 'a'.zfill(9999999999) }}",
    "{{ 'a' | indent(9999999999) }}",
    "{{ [1] | tojson(indent=99999999999) }}",
    "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "{{ ('b' * 100000).join('a' * 1000000) }}",
    "{{ range(999) | join('b' * 100000) }}",
    "{% for k in [[1] * 1000] * 1000 %}{% for m in k %}{% for l in k %}{% endfor %}{% endfor %}{% endfor %}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "[" * 500 + "1" + "]" * 500 + " }}",
    "{% if true %}" * 500 + "{% endif %}" * 500,
    "{{ 7 }}" * 50_000,
    "{% for",
    "{{ 1 / 0 }}",
    "{{ messages | nonsense }}",
    "{{ messages + 1 }}",
    "{{ none.x.y }}",
    "{{ [].x() }}",
]  # fmt: skip


@pytest.fixture
def two_gibibytes_more() -> Iterator[None]:
    """A limit of memory, so that a hostile template that gets through fails the test and not the machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("two_gibibytes_more")
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_or_broken_template_ends_in_words(number: int) -> None:
    with pytest.raises(ModelInvalid, match="chat template of test.gguf does not work") as caught:
        render(HOSTILE[number])
    assert len(str(caught.value)) < 400
    assert "MemoryError" not in caught.value.what


@pytest.mark.parametrize(
    "source",
    ["{{ messages[0].content.format.__globals__ }}", "{{ '{0.__class__}'.format(messages) }}", "{{ 'a' | attr('__class__') }}"],
)
def test_what_is_hidden_from_a_template_is_nothing_to_it(source: str) -> None:
    assert render(source) == ""


def test_a_budget_is_for_one_rendering() -> None:
    busy = template(
        "{% for i in range(99999) %}{% for j in messages %}{% for k in messages %}{% endfor %}{% endfor %}{% endfor %}x"
    )
    assert {busy.render(TALK) for _ in range(4)} == {"x"}


def test_a_long_conversation_stays_far_below_the_budget() -> None:
    source = (
        "{% macro say(m) %}{{ '<|' ~ m.role | trim ~ '|>' }}"
        "{{ m.content.split('</t>')[-1].lstrip() | trim }}{% endmacro %}"
        "{% for m in messages %}{% if m.role == 'tool' %}{{ m | tojson }}{% else %}{{ say(m) + '\n' }}{% endif %}{% endfor %}"
    )
    talk = [{"role": "user", "content": "word " * 50}] * 5_000
    prepared = template(source)
    assert prepared.render(talk).count("<|user|>") == 5_000
    sandbox = prepared._template._sandbox
    assert sandbox._steps > 0
