"""Routing rules: the condition language, files with every kind of fault, contradictions, inline tests, reloading."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import paths
from data.errors import RulesError
from router._rules.expression import ExpressionError, parse
from router._rules.regexes import checked
from router.rules import REGEX_CHARS, SEEN_CHARS, Facts, Known, Rules, RulesFile

DOCUMENT = Path(__file__).parent.parent / "docs" / "rules.md"


def holds(condition: str, text: str, **context) -> bool:
    return parse(condition).holds(Facts.of(text, **context))


def rule(name: str = "one", when: str = "true", more: str = 'mode = "agent"') -> str:
    return f"[[rule]]\nname = \"{name}\"\nwhen = '''{when}'''\n{more}\n"


def problems(text: str, known: Known | None = None) -> tuple[str, ...]:
    with pytest.raises(RulesError) as caught:
        Rules.parse(text, "rules.toml", known)
    return caught.value.problems


def test_the_documented_example_is_a_valid_file_whose_tests_pass() -> None:
    example = DOCUMENT.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    rules = Rules.parse(example, "rules.toml")
    assert len(rules) == 3 and rules.notes == ()
    results = rules.tests()
    assert len(results) == 5 and all(result.passed for result in results)
    found = rules.match(Facts.of("please REFUND me"))
    assert found.domain is not None and (found.domain.value, found.domain.rule.name) == ("billing", "refunds")
    assert found.mode is None and [one.name for one in found.matched] == ["refunds"]


@pytest.mark.parametrize(
    ("condition", "text", "expected"),
    [
        ('keyword("refund", "charge back")', "a CHARGE  back, please", True),
        ('keyword("charge back")', "charge-back", True),
        ('keyword("refund")', "refunding", False),
        ('keyword("don\'t")', "I don’t know", True),
        ('keyword("c++")', "write C++ code", True),
        ('keyword("c++")', "write C code", False),
        ('keyword("straße")', "STRASSE", True),
        ('keyword("ﬁle")', "the FILE", True),
        ('keyword("退款")', "我想退款谢谢", True),
        ('keyword("вернуть деньги")', "Вернуть деньги!", True),
        ('all_keywords("red", "blue")', "blue and red", True),
        ('all_keywords("red", "blue")', "red", False),
        ('about("urgent")', "urgnet!", True),
        ('about("urgent")', "urgen", True),
        ('about("urgent")', "urrgent", True),
        ('about("urgent")', "ardent", False),
        ('about("cat")', "cut", False),
        ('about("credit card")', "my credt cadr is lost", False),
        ('about("credit card")', "my credt card is lost", True),
        (r'regex("\bA\d+\b")', "part A17", True),
        (r'regex("\bA\d+\b")', "part a17", False),
        (r'regex("say \"hi\"")', 'say "hi"', True),
        ('starts_with("Can") and ends_with("NOW?")', "can you come now?", True),
        ("words == 3 and lines == 2 and chars == 13", "one two\nthree", True),
        ("2 <= numbers < 4 and digits >= 4", "12 and 3.5 and 7", True),
        ("questions > 1", "really? 真的？", True),
        ("code_blocks == 1 and has_code", "see\n```py\nx = 1\n```", True),
        ("urls == 1 and has_url", "look at https://example.org/a", True),
        ("has_email", "write to a.b@example.org", True),
        ("has_math", "what is 3 + 4", True),
        ("has_math", "my well-known 24-7 shop", False),
        ("has_table", "| a | b |\n|---|---|\n| 1 | 2 |", True),
        ("has_file", "read notes/today.md", True),
        ("has_file", "e.g. this", False),
        ("is_question", "where is it", True),
        ("is_question", "it is here", False),
        ("is_command", "Please summarise this", True),
        ("is_command", "Write it?", False),
        ('not keyword("a") and (keyword("b") or keyword("c"))', "c", True),
        ('keyword("a") or keyword("b") and keyword("c")', "a", True),
        ("true", "anything", True),
        ('keyword("re fund")', "re\x00fund", True),
        ('keyword("refund")', "re\u200bfund", True),
        ('keyword("refund")', "\ud800 refund \x1b[31m", True),
    ],
)
def test_a_condition_holds_as_documented(condition: str, text: str, expected: bool) -> None:
    assert holds(condition, text) is expected


def test_a_condition_may_ask_for_the_pinned_domain_and_attached_files() -> None:
    assert holds('domain("law")', "hello", domain="law") and not holds('domain("law")', "law")
    assert holds("has_file", "hello", attachments=("a.bin",))


@pytest.mark.parametrize(
    ("condition", "offset", "reason"),
    [
        ("has_cod", 0, "did you mean has_code"),
        ('keyword("a") nd true', 13, "found nd"),
        ('keyword("a" "b")', 12, "expected )"),
        ("keyword(a)", 8, "strings in quotes"),
        ("keyword", 7, "expected ("),
        ('keyword("")', 8, "empty keyword"),
        ("words", 0, "needs a comparison"),
        ("words < many", 8, "found many"),
        ("3 < 4", 0, "always the same"),
        ("(true", 5, "expected )"),
        ("true)", 4, "found )"),
        ("", 0, "found the end"),
        ("true and", 8, "found the end"),
        ("true & true", 5, "'&' means nothing"),
        ("keyword('a", 8, "does not end"),
        (r'regex("a(b")', 8, "unterminated subpattern"),
        ("words < 12345678901", 8, "nine digits"),
        ("(" * 50 + "true" + ")" * 50, 40, "levels deep"),
        ("not " * 50 + "true", 160, "levels deep"),
        ("true or " * 600 + "true", 4000, "4000 at most"),
    ],
)
def test_a_bad_expression_is_told_with_its_place(condition: str, offset: int, reason: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(condition)
    assert reason in caught.value.reason and caught.value.offset == offset


@given(st.text(max_size=40))
def test_any_text_as_an_expression_is_a_condition_or_an_expression_error(text: str) -> None:
    try:
        parse(text).holds(Facts.of("some text"))
    except ExpressionError as error:
        assert 0 <= error.offset <= len(text)


@given(st.text(max_size=200))
def test_any_text_has_facts(text: str) -> None:
    facts = Facts.of(text)
    assert facts.number("words") >= 0 and isinstance(holds('is_command or has_table or about("hello")', text), bool)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$", "(a*)*b", "(a|a)*b", "(?:a|ab)*c", "(a?){20}a{20}", "a?" * 30 + "a" * 30, r".*foo.*bar", r"(x+x+)+y", r"(\w)\1",
        r"\w+\s?\w+@", r"(?:\w+\s?)*!", "(?:)*x", r"^(\d+|\w+)*$", "x" * 301, r"(?=(a+)+b)a", r"[а-я]+[ж-ц]+ы+ю", "(?i)(ab|AB)*c",
    ],
)  # fmt: skip
def test_a_regex_that_could_run_away_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"very long|at most"):
        checked(pattern)


@pytest.mark.parametrize("pattern", ["(", "[[a]", "x{99999999999}", "*a", "(?P<n>a)(?P<n>b)", "a(?i)b"])
def test_a_bad_regex_is_told_without_a_warning(pattern: str) -> None:
    with pytest.raises(ValueError, match="bad regex"):
        checked(pattern)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"\d+\s+\d+\s*%", "12 13 %"), (r"[\w.+-]+@[\w-]+\.[\w.-]+", "a@b.c"), (r"\bfoo\b.*\bbar\b", "foo or bar"),
        (r"(?:foo|bar)+x", "foobarx"), (r"(?:\d{1,3}\.){3}\d{1,3}", "10.0.0.1"), (r"(?i)charge.?back", "CHARGE-BACK"),
        (r"https?://\S+", "http://x"), (r"^\s*$|colou?rs?", "colour"), (r"(?<!un)happy(?!\s+birthday)", "so happy"),
    ],
)  # fmt: skip
def test_ordinary_regexes_are_taken(pattern: str, text: str) -> None:
    assert checked(pattern).search(text)


def test_regexes_and_keywords_see_only_the_begin_of_a_long_text_and_ends_with_sees_its_end() -> None:
    late, later = "x " * (REGEX_CHARS // 2 + 5) + "needle here", "x " * (SEEN_CHARS // 2 + 5) + "needle here"
    assert holds('keyword("needle")', late) and not holds('regex("needle")', late)
    assert not holds('keyword("needle")', later) and holds('ends_with("needle here")', later)
    assert Facts.of(later).cut and not Facts.of(late).cut


def test_a_megabyte_is_matched_with_its_true_length() -> None:
    text = "word \n" * 170_000
    assert len(text) > 1_000_000
    assert holds('chars > 1000000 and lines > 100000 and keyword("word") and not about("urgent")', text)


@pytest.mark.parametrize("text", ["", "   \n", "\x00\u200b"])
def test_an_empty_text_matches_nothing(text: str) -> None:
    assert Rules.parse(rule(), "rules.toml").match(Facts.of(text)).matched == ()


def test_priority_goes_before_order_and_each_field_has_its_own_winner() -> None:
    text = rule("low", "true", 'mode = "standard"\ndomain = "a"') + rule(
        "high", "words > 0", 'mode = "agent"\npriority = 5\nreason = "r"'
    )
    found = Rules.parse(text, "rules.toml").match(Facts.of("hello"))
    assert found.mode and found.domain
    assert (found.mode.value, found.mode.rule.name, found.mode.rule.reason, found.mode.rule.line) == ("agent", "high", "r", 6)
    assert (found.domain.value, found.domain.rule.name) == ("a", "low")
    assert [one.name for one in found.matched] == ["high", "low"]


def test_stop_keeps_lower_rules_from_being_asked() -> None:
    text = rule("low", "words > 0", 'mode = "standard"') + rule("high", "true", "priority = 5\nstop = true")
    assert [one.name for one in Rules.parse(text, "x").match(Facts.of("hello")).matched] == ["high"]


def test_of_equal_priority_the_first_in_the_file_wins() -> None:
    text = rule("first", 'keyword("a")') + rule("second", 'keyword("b")', 'mode = "standard"')
    found = Rules.parse(text, "x").match(Facts.of("a b"))
    assert found.mode is not None and found.mode.rule.name == "first"


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        (rule(more='mod = "agent"'), "4:7", "did you mean mode"),
        (rule(more='mode = "agnet"'), "4:8", "did you mean agent"),
        (rule(more='domain = "lw"'), "4:10", "did you mean law"),
        (rule(more='tools = ["calculatr"]'), "4:9", "did you mean calculator"),
        (rule(more='model = "gone/x"'), "4:9", "unknown model"),
        (rule(more="tools = 'calculator'"), "4:9", "not a list"),
        (rule(more="mode = 3"), "4:8", "not a string"),
        (rule(more="mode = ''"), "4:8", "mode is empty"),
        (rule(more="reason = 'r'"), "1:1", "sets nothing"),
        (rule(more="priority = 1.5\nstop = true"), "4:12", "whole number"),
        (rule(more="priority = true\nstop = true"), "4:12", "whole number"),
        (rule(more="stop = 'yes'\nmode = 'agent'"), "4:8", "true or false"),
        ("[[rule]]\nname = 'n'\nmode = 'agent'", "1:1", "no when"),
        ("[[rule]]\nwhen = 'true'\nmode = 'agent'", "1:1", "no name"),
        (rule("no name"), "2:8", "letters, digits"),
        (rule("a") + rule("a", "words > 3", 'domain = "law"'), "5:1", "the first is on line 1"),
        (rule(when="has_cod"), "3:11", "did you mean has_code"),
        (rule(when="\ntrue and\n  has_cod"), "5:3", "did you mean has_code"),
        ('[[rule]]\nname = "n"\nwhen = "keyword(\\"a\\") and x"\nmode = "agent"', "3:28", "unknown name x"),
        (rule(when="regex('a(b')"), "3:19", "bad regex"),
        (rule(when='domain("medicine")'), "3:18", "unknown domain"),
        ("# c\nrules = 1\n", "2:1", "unknown key rules"),
        ("rule = 1\n", "1:1", "not a list of tables"),
        ("[[rule]]\nname = \n", "2:8", "not TOML"),
        (rule(more="mode = 'agent'\n[[rule.test]]\ntxt = 'a'"), "5:1", "has no text"),
        (rule(more="mode = 'agent'\n[[rule.test]]\ntext = 'a'\nmatch = 'yes'"), "7:9", "true or false"),
        (rule(more="mode = 'agent'\ntest = 1"), "5:8", "not a list of tables"),
        ("x = " + "[" * 3000, "1:1", "nested too deeply"),
        ("#" * 300_000, "1:1", "at most"),
    ],
)
def test_each_fault_is_told_with_line_and_column(text: str, place: str, reason: str) -> None:
    known = Known(frozenset({"echo/echo"}), domains=frozenset({"law"}), tools=frozenset({"calculator"}))
    found = problems(text, known)
    assert any(problem.startswith(f"rules.toml:{place}: ") and reason in problem for problem in found), found


def test_all_faults_of_a_file_are_told_at_once_with_a_caret_under_each() -> None:
    found = problems(rule("a", "has_cod") + rule("b", "true", 'mode = "agnet"'))
    assert [problem.splitlines()[0].split(":")[1] for problem in found] == ["3", "8"]
    line, caret = found[0].splitlines()[1:]
    assert line[caret.index("^") :].startswith("has_cod")


def test_a_failing_test_names_its_text_what_was_expected_and_what_came() -> None:
    more = "mode = 'agent'\n[[rule.test]]\ntext = 'hello b'\n[[rule.test]]\ntext = 'a b'\nmode = 'standard'\n"
    found = problems(rule(when='keyword("a")', more=more))
    assert len(found) == 2
    assert "rules.toml:5:1" in found[0] and "'hello b': expected match = true, got match = false" in found[0]
    assert "rules.toml:7:1" in found[1] and "expected mode = standard, got mode = agent" in found[1]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ('keyword("a") and words < 5', '(5 > words) and keyword( "A" )'),
        ('keyword("a", "b")', 'keyword("b") or keyword("a")'),
        ("not not has_code", "has_code"),
        ('has_url and (has_code and keyword("x"))', 'keyword("x") and has_code and has_url'),
        ("words <= 4", "words < 5"),
    ],
)
def test_equal_conditions_of_equal_priority_that_disagree_are_a_contradiction(one: str, two: str) -> None:
    found = problems(rule("one", one) + rule("two", two, 'mode = "standard"'))
    assert len(found) == 1
    assert "rules.toml:5:1: two contradicts one on line 1" in found[0]
    assert "mode agent and standard" in found[0] and "higher priority" in found[0]


def test_different_conditions_that_one_test_text_fulfils_are_a_contradiction() -> None:
    first = rule("one", 'keyword("a")', "tools = ['now']\n[[rule.test]]\ntext = 'a and b'")
    found = problems(first + rule("two", 'keyword("b")', "tools = ['calculator']"))
    assert "both match 'a and b'" in found[0] and "[now] and [calculator]" in found[0]


def test_rules_that_agree_or_differ_in_priority_do_not_contradict() -> None:
    Rules.parse(rule("one") + rule("two") + rule("three", "true", 'mode = "standard"\npriority = -1'), "x")
    Rules.parse(rule("one", more="tools = ['a', 'b']") + rule("two", more="tools = ['b', 'a']"), "x")


def test_a_rule_that_can_never_win_is_noted() -> None:
    text = rule("low") + rule("high", "true", 'mode = "standard"\npriority = 1')
    assert Rules.parse(text, "f").notes == ("f:1:1: low never sets mode: high on line 5 has the same condition and is asked first",)
    text = rule("low", "true", 'domain = "x"') + rule("high", "true", "stop = true\npriority = 1")
    assert "never reached" in Rules.parse(text, "f").notes[0]


def write(path: Path, text: str, at: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(at, at))


def test_without_a_file_there_are_no_rules_and_no_fault() -> None:
    file = RulesFile()
    assert file.path == paths.config_dir() / "rules.toml"
    assert len(file.load()) == 0 and file.current()[1] == ""


def test_a_changed_file_is_taken_and_a_faulty_one_leaves_the_rules_before_it(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    file = RulesFile(path)
    assert len(file.current()[0]) == 0
    write(path, rule("good"), 1)
    good, fault = file.current()
    assert len(good) == 1 and fault == "" and file.current()[0] is good
    write(path, rule("bad", "has_cod"), 2)
    kept, fault = file.current()
    assert kept is good and "has_cod" in fault and "rules.toml:3" in fault
    assert file.current() == (good, fault)
    write(path, rule("one") + rule("two"), 3)
    assert len(file.current()[0]) == 2 and file.current()[1] == ""
    path.unlink()
    assert len(file.current()[0]) == 0


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"name = 'x'\n\x00"])
def test_a_file_that_is_no_text_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(content)
    with pytest.raises(RulesError, match=r"rules\.toml"):
        RulesFile(path).load()


def test_a_folder_in_place_of_the_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="cannot read"):
        RulesFile(tmp_path).load()
    assert "cannot read" in RulesFile(tmp_path).current()[1]
