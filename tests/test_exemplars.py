"""The user's own examples: at once, for corrections and for domains that have nothing else."""

import numpy as np
import pytest
import routing_data

from data.errors import InputError, ModelMissing
from router.classifier import DomainHead, from_exemplars
from router.exemplars import MOST, Exemplar, teach
from router.features import grams
from router.training import train_head

GARDEN = [
    "when should i plant tomatoes",
    "how do i prune roses",
    "why are the leaves of my basil yellow",
    "which soil do carrots need",
    "how often should i water the lawn",
    "how do i keep slugs off the lettuce",
]


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> DomainHead:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POINTSMAN_HOME", str(tmp_path_factory.mktemp("home")))
        return train_head(routing_data.labelled(), routing_data.encoder(), version="v0001")


def absent(text: str) -> np.ndarray:
    raise ModelMissing("the model minilm-l6 is not prepared yet", "pointsman models prepare")


def garden() -> list[Exemplar]:
    return [Exemplar(text, "garden", source="seed") for text in GARDEN]


def test_a_correction_counts_at_the_next_question(head: DomainHead) -> None:
    encode = routing_data.encoder()
    question = "is rice healthy to eat"
    assert head.read(question, encode).domain == "cooking"
    taught = head.with_exemplars([Exemplar(question, "travel")], encode)
    found = taught.read(question, encode)
    assert (found.domain, found.outcome) == ("travel", "accepted")
    assert "exemplars" in found.heads
    assert head.read(question, encode).domain == "cooking"


def test_a_correction_reaches_the_same_words_and_no_further(head: DomainHead) -> None:
    encode = routing_data.encoder()
    taught = head.with_exemplars([Exemplar("is rice healthy to eat", "travel")], encode)
    assert taught.read("Is  RICE healthy to eat?", encode).domain == "travel"
    assert taught.read("give me a recipe for pizza", encode).domain == "cooking"
    assert taught.read("play some jazz music", encode).domain == head.read("play some jazz music", encode).domain == "music"


def test_a_correction_brings_an_out_of_scope_question_into_a_domain(head: DomainHead) -> None:
    encode = routing_data.encoder()
    assert head.read("who invented gravity", encode).outcome == "out_of_scope"
    taught = head.with_exemplars([Exemplar("who invented gravity", "music")], encode)
    assert taught.read("who invented gravity", encode).domain == "music"


def test_corrections_work_without_the_encoder(head: DomainHead) -> None:
    taught = head.with_exemplars([Exemplar("is rice healthy to eat", "travel")], absent)
    found = taught.read("is rice healthy to eat", absent)
    assert found.domain == "travel"
    assert "missing" in found.note


def test_the_newest_of_two_contradicting_corrections_wins(head: DomainHead) -> None:
    encode = routing_data.encoder()
    both = [Exemplar("is rice healthy to eat", "travel"), Exemplar("is rice healthy to eat", "music")]
    assert head.with_exemplars(both, encode).read("is rice healthy to eat", encode).domain == "music"


def test_a_handful_of_examples_makes_a_domain_beside_the_trained_ones(head: DomainHead) -> None:
    encode = routing_data.encoder()
    taught = head.with_exemplars(garden(), encode)
    assert taught.domains == (*head.domains, "garden")
    assert taught.read("when should i prune the tomatoes", encode).domain == "garden"
    assert taught.read("book a flight to paris", encode).domain == "travel"
    assert taught.read("give me a recipe for pizza", encode).domain == "cooking"
    assert sum(share for _, share in taught.read("how do i water roses", encode).probabilities) == pytest.approx(1, abs=1e-3)


def test_examples_alone_make_a_head(head: DomainHead) -> None:
    encode = routing_data.encoder()
    examples = garden() + [Exemplar(text, "banking", source="seed") for text in (
        "what is my balance", "move money to my savings account", "why was my card declined", "when is my bill due",
        "how do i freeze my account", "what is the interest rate",
    )]  # fmt: skip
    alone = from_exemplars(examples, encode)
    assert alone.domains == ("banking", "garden")
    assert alone.read("which soil do roses need", encode).domain == "garden"
    assert alone.read("is my card declined", encode).domain == "banking"
    assert alone.read("zzz qqq xxx", encode).domain == ""
    assert alone.read("which soil do roses need", absent).domain == "garden"


def test_taking_examples_away_gives_the_old_head(head: DomainHead) -> None:
    encode = routing_data.encoder()
    taught = head.with_exemplars(garden(), encode)
    again = taught.with_exemplars([], encode)
    assert again.domains == head.domains
    assert again.read("book a flight to paris", encode) == head.read("book a flight to paris", encode)


def test_examples_replace_each_other_instead_of_piling_up(head: DomainHead) -> None:
    encode = routing_data.encoder()
    one = head.with_exemplars(garden(), encode)
    two = one.with_exemplars([Exemplar("who invented irony", "music")], encode)
    assert "garden" not in two.domains


def test_why_shows_the_users_own_example_as_the_nearest(head: DomainHead) -> None:
    encode = routing_data.encoder()
    taught = head.with_exemplars(garden(), encode)
    nearest = taught.explain("how do i prune the roses", encode).nearest
    assert nearest[0][0].text == "how do i prune roses"
    assert nearest[0][1] > nearest[-1][1]


@pytest.mark.parametrize("bad", [Exemplar("", "garden"), Exemplar("  ", "garden"), Exemplar("how do i prune", " ")])
def test_an_example_without_text_or_domain_is_refused(head: DomainHead, bad: Exemplar) -> None:
    with pytest.raises(InputError, match="empty"):
        head.with_exemplars([*garden(), bad], routing_data.encoder())


def test_no_examples_make_no_head() -> None:
    with pytest.raises(InputError, match="no examples"):
        from_exemplars([])


def test_an_unreadable_example_does_not_break_the_others(head: DomainHead) -> None:
    encode = routing_data.encoder()
    taught = head.with_exemplars([*garden(), Exemplar("\u200b\u200d", "garden"), Exemplar("x" * 100_000, "garden")], encode)
    assert taught.read("how do i prune roses", encode).domain == "garden"


def test_the_newest_examples_are_kept_where_there_are_too_many() -> None:
    many = [Exemplar(f"text number {at}", f"domain {at % 2}", source="seed") for at in range(MOST + 5)]
    head = from_exemplars(many)
    assert head.taught is not None
    assert head.taught.real == MOST
    assert head.taught.exemplars[0].text == "text number 5"


def test_leave_one_out_answers_are_those_of_heads_fitted_without_the_row() -> None:
    from router.exemplars import RIDGE, _solve

    source = np.random.default_rng(0)
    points = source.normal(size=(12, 3))
    kernel = np.exp(-((points[:, None] - points[None]) ** 2).sum(-1)).astype(np.float32)
    labels = np.arange(12) % 3
    answers, _ = _solve(kernel, labels, 3, np.zeros(1, np.float32))
    inverse = np.linalg.inv(kernel.astype(np.float64) + RIDGE * np.eye(12))
    targets = np.eye(3)[labels] - 1 / 3
    quick = targets - answers / np.diag(inverse)[:, None]
    kept = np.arange(12) != 4
    slow = kernel[4, kept] @ np.linalg.solve(kernel[np.ix_(kept, kept)] + RIDGE * np.eye(11), targets[kept])
    assert np.allclose(quick[4], slow, atol=1e-4)


def test_the_nearest_example_counts_beside_the_many() -> None:
    many = np.array([[1.0, 0.0, 0.05 * at] for at in range(-4, 5)], np.float32)
    vectors = np.concatenate([many, [[0.6, 0.8, 0.0]]]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    examples = [Exemplar(f"word{at}", "many" if at < 9 else "one", source="seed") for at in range(10)]
    taught = teach(examples, [one.text for one in examples], vectors, real=10, own=3)
    assert taught.ask(grams("nothing known"), vectors[9]).probabilities.argmax() == taught.domains.index("one")
    assert taught.ask(grams("nothing known"), vectors[4]).probabilities.argmax() == taught.domains.index("many")


def test_teaching_needs_no_vectors() -> None:
    taught = teach(garden(), GARDEN, None, real=len(GARDEN), own=384)
    assert taught.vectors.shape == (len(GARDEN), 0)
    assert taught.temperatures[0] == taught.temperatures[1]
