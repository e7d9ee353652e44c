"""Reasoning chains: about their own text, honest where nothing was found, and never naming what is not there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dataset_packs import intent_pack, scam_pack
from hypothesis import given, settings
from hypothesis import strategies as st

from data.datasets._wording import QUOTE_CHARS
from data.datasets.chains import CHAIN_CHARS, Chains, check_chain, from_knowledge, teacher_messages
from data.datasets.rows import Origin, Row
from data.domains import Domain
from data.errors import EngineInterrupted, EngineUnavailable
from data.indicators import Indicators

HERE = Origin("rows.jsonl", 1)
TEXT = "Confirm your password immediately, and buy a gift card."


@pytest.fixture(scope="module")
def scams(tmp_path_factory: pytest.TempPathFactory) -> Domain:
    return scam_pack(tmp_path_factory.mktemp("packs"))


@pytest.fixture(scope="module")
def known(scams: Domain) -> Indicators:
    return Indicators.of(scams)


def labelled(text: str = TEXT, label: str = "phishing", **more) -> Row:
    return Row("label", text, HERE, label=label, **more)


def test_a_chain_quotes_this_text_weighs_it_and_ends_in_the_label(scams: Domain, known: Indicators) -> None:
    chain = from_knowledge(TEXT, "phishing", scams, known)
    for quote in ("“Confirm your password”", "“immediately”", "“gift card”"):
        assert quote in chain
    assert "legitimate" in chain  # what it speaks against
    assert chain.endswith("phishing")
    assert check_chain(chain, TEXT, known, scams.labels) == []


def test_a_text_without_signs_gets_a_chain_that_says_so(scams: Domain, known: Indicators) -> None:
    chain = from_knowledge("See you at noon.", "legitimate", scams, known)
    assert "o indicator of phishing, scam or legitimate is in the text" in chain
    assert "“" not in chain
    assert chain.endswith("legitimate")


def test_signs_of_another_label_are_told_with_their_weight(scams: Domain, known: Indicators) -> None:
    chain = from_knowledge("Confirm your password for your appointment", "legitimate", scams, known)
    assert "“Confirm your password”" in chain
    assert "“your appointment”" in chain
    assert any(said in chain for said in ("weigh more on the other side", "would be read differently"))
    alone = from_knowledge("Confirm your password", "legitimate", scams, known)
    assert "o indicator of scam or legitimate is in the text" in alone


def test_wording_varies_by_text_and_is_the_same_in_every_process(scams: Domain, known: Indicators) -> None:
    texts = [f"Number {number}: verify your account" for number in range(40)]
    chains = [from_knowledge(text, "phishing", scams, known) for text in texts]
    assert len(set(chains)) >= 10
    script = (
        "import sys; from pathlib import Path; from data.domains import read; from data.indicators import Indicators\n"
        "from data.datasets.chains import from_knowledge\n"
        "pack = read(Path(sys.argv[1])); known = Indicators.of(pack)\n"
        "print('\\n'.join(from_knowledge(f'Number {n}: verify your account', 'phishing', pack, known) for n in range(40)))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(scams.folder)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split("\n")[:-1] == chains


@pytest.mark.parametrize(
    ("chain", "fault"),
    [
        ("It asks for a gift card payment. Label: phishing", "gift_card_payment"),
        ("There is urgency here", "urgency"),
        ("This has credential-request written all over it", "credential_request"),
        ("The words “wire the money” show it", "wire the money"),
        ('It says "act now!"', "act now"),
        ("«jetzt» steht da", "jetzt"),
    ],
)
def test_a_chain_that_names_or_quotes_what_is_not_there_is_found_out(known: Indicators, chain: str, fault: str) -> None:
    faults = check_chain(chain, "See you at noon.", known)
    assert len(faults) == 1
    assert fault in faults[0]


@pytest.mark.parametrize(
    "chain",
    [
        'It says "confirm  YOUR password," which shows urgency',
        "“phishing” is the label, “gift card” the means",
        "the credential request in “Confirm your password immediately”",
        "“urgency” was found",
    ],
)
def test_quotes_are_compared_without_case_and_spaces_and_labels_are_no_quotes(known: Indicators, chain: str) -> None:
    assert check_chain(chain, TEXT, known, ("phishing",)) == []


def test_an_indicator_that_only_stands_within_a_quote_is_not_named(known: Indicators) -> None:
    assert check_chain("They write “there is no urgency at all”.", "There is no urgency at all", known) == []


@pytest.mark.parametrize("text", ["a “gift card” for «you»", 'a "gift card"', "gift\ncard", "“gift card", "gift\u00a0card"])
def test_quotation_marks_and_white_space_within_a_text_break_no_chain(scams: Domain, known: Indicators, text: str) -> None:
    chain = from_knowledge(text, "scam", scams, known)
    assert check_chain(chain, text, known, scams.labels) == []
    assert chain.endswith("scam")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["gift card", "immediately", "verify your account", "your appointment", "“", "”", '"', "«", "{x}", "\n", "noon"]
        )
    )
)
def test_no_text_makes_a_chain_with_a_fault(scams: Domain, known: Indicators, words: list[str]) -> None:
    text = " ".join(words)
    for label in scams.labels:
        chain = from_knowledge(text, label, scams, known)
        assert check_chain(chain, text, known, scams.labels) == []
        assert chain.endswith(label)
        said = chain.partition("o indicator of ")[2].partition(" is in the text")[0]
        assert not {one.label for one in known.find(text)} & set(re.findall(r"\w+", said))


def test_long_quotes_are_cut_at_a_word(scams: Domain) -> None:
    known = Indicators.parse(
        "[[indicator]]\nname = 'long_offer'\nlabel = 'scam'\ndescription = 'promises much'\npatterns = ['offer.{0,300}end']",
        labels=scams.labels,
    )
    text = "offer " + "word " * 50 + "end"
    chain = from_knowledge(text, "scam", scams, known)
    (quote,) = [part.split("”")[0] for part in chain.split("“")[1:]]
    assert len(quote) <= QUOTE_CHARS
    assert quote.endswith("word")


def test_a_description_that_names_another_indicator_is_left_out(scams: Domain) -> None:
    known = Indicators.parse(
        """
[[indicator]]
name = "prize"
label = "scam"
description = "offers a prize and shows urgency"
keywords = ["you won"]
[[indicator]]
name = "urgency"
label = "phishing"
description = "presses"
keywords = ["now"]
""",
        labels=scams.labels,
    )
    chain = from_knowledge("you won", "scam", scams, known)
    assert "urgency" not in chain
    assert "“you won”" in chain


def test_given_reasoning_stays_unless_it_names_what_is_not_there(scams: Domain) -> None:
    chains = Chains(scams)
    kept = chains.row(labelled(reasoning="They want the password at once.", label="phishing"))
    assert (kept.reasoning, kept.reasoning_source) == ("They want the password at once.", "given")
    wrong = chains.row(labelled("See you at noon", "legitimate", reasoning="There is urgency in it."))
    assert wrong.reasoning_source == "knowledge base"
    assert "urgency" not in wrong.reasoning
    assert chains.counts == {"given": 1, "given refused": 1, "knowledge base": 1}


def test_rows_without_a_label_or_a_knowledge_base_get_no_chain(scams: Domain, tmp_path: Path) -> None:
    chains = Chains(scams)
    assert chains.row(Row("instruction", "Why?", HERE, completion="because")).reasoning == ""
    judged = Row("feedback", TEXT, HERE, correct_labels=("phishing", "scam"))
    assert chains.row(judged).reasoning == ""
    assert Chains(intent_pack(tmp_path)).row(labelled(label="x")).reasoning == ""


def test_the_one_right_label_of_feedback_is_explained(scams: Domain) -> None:
    found = Chains(scams).row(Row("feedback", TEXT, HERE, correct_labels=("phishing",), incorrect_labels=("scam",)))
    assert found.reasoning.endswith("phishing")


def test_a_teacher_is_told_the_signs_and_recorded(scams: Domain) -> None:
    asked = []

    def teacher(messages) -> str:
        asked.append(messages)
        return "<think>hm</think>The words “Confirm your password” are a credential request. Label: phishing"

    found = Chains(scams, teacher, "echo/teacher").row(labelled())
    assert found.reasoning == "The words “Confirm your password” are a credential request. Label: phishing"
    assert (found.reasoning_source, found.reasoning_by) == ("teacher", "echo/teacher")
    assert "credential_request: “Confirm your password”" in asked[0][-1].content
    assert asked[0] == teacher_messages(TEXT, "phishing", scams, Indicators.of(scams))


@pytest.mark.parametrize(
    "reply",
    [
        "It says “wire the money”. Label: phishing",
        "Clearly a case of known sender. Label: phishing",
        "I would say it is fine.",
        "",
        "<think>phishing",
        "phishing " * CHAIN_CHARS,
    ],
    ids=["quote", "name", "no label", "nothing", "thinking", "too long"],
)
def test_a_teacher_that_invents_is_refused_and_replaced(scams: Domain, reply: str) -> None:
    chains = Chains(scams, lambda messages: reply, "echo/teacher")
    found = chains.row(labelled())
    assert found.reasoning_source == "knowledge base"
    assert found.reasoning_by == ""
    assert chains.counts == {"teacher refused": 2, "knowledge base": 1}


def test_a_teacher_that_breaks_off_fails_the_row_and_one_that_is_away_the_build(scams: Domain) -> None:
    def broken(messages) -> str:
        raise EngineInterrupted("it broke off")

    chains = Chains(scams, broken, "x/y")
    assert chains.row(labelled()).reasoning_source == "knowledge base"
    assert chains.counts["teacher failed"] == 2

    def away(messages) -> str:
        raise EngineUnavailable("nobody is there")

    with pytest.raises(EngineUnavailable):
        Chains(scams, away, "x/y").row(labelled())


def test_without_writing_only_given_chains_are_judged(scams: Domain) -> None:
    chains = Chains(scams, write=False)
    assert chains.row(labelled()).reasoning == ""
    assert chains.row(labelled("noon", "legitimate", reasoning="There is urgency.")).reasoning == ""
    assert chains.counts == {"none": 2, "given refused": 1}


def test_a_chain_is_as_long_as_the_domain_allows_and_stands_in_its_output(tmp_path: Path) -> None:
    pack = scam_pack(tmp_path, reasoning_chars=150)
    known = Indicators.of(pack)
    text = "Confirm your password immediately within 24 hours, and buy a gift card for your appointment."
    for label in pack.labels:
        chain = from_knowledge(text, label, pack, known)
        assert len(chain) <= 150
        assert chain.endswith(label)
        assert "“" in chain
    found = Chains(pack).row(labelled(text, output={"label": "phishing", "risk": "high"}))
    assert found.output["reasoning"] == found.reasoning
    long = Chains(pack, lambda messages: "phishing " * 30, "x/y").row(labelled(text))
    assert long.reasoning_source == "knowledge base"


def test_reasoning_within_an_output_is_judged_and_replaced_too(tmp_path: Path) -> None:
    pack = scam_pack(tmp_path, reasoning_chars=300)
    right = Chains(pack).row(labelled("noon", output={"label": "phishing", "risk": "high", "reasoning": "It is odd."}))
    assert (right.reasoning, right.reasoning_source) == ("It is odd.", "given")
    wrong = Chains(pack).row(labelled("noon", output={"label": "phishing", "risk": "high", "reasoning": "There is urgency."}))
    assert wrong.output["reasoning"] == wrong.reasoning
    assert "urgency" not in wrong.reasoning
