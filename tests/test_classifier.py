"""The domain head: what it accepts and leaves alone, what it says about itself, and what it makes of bad input."""

from dataclasses import replace

import numpy as np
import pytest
import routing_data
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import ModelInvalid, ModelMissing
from router.classifier import DomainHead
from router.encoder import Encoder, shortened
from router.features import grams, normalise, vocabulary
from router.heads import Dense, Pairs
from router.linear import Linear, one_hot
from router.spelling import Spelling, learnt
from router.training import _pairs, _without_idle_pairs, train_head


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> DomainHead:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POINTSMAN_HOME", str(tmp_path_factory.mktemp("home")))
        return train_head(routing_data.labelled(), routing_data.encoder(), version="v0001")


def absent(text: str) -> np.ndarray:
    raise ModelMissing("the model minilm-l6 is not prepared yet", "pointsman models prepare")


def test_a_question_gets_its_domain_and_intent(head: DomainHead) -> None:
    found = head.read("could you book a flight to lisbon", routing_data.encoder())
    assert (found.domain, found.outcome, found.intent) == ("travel", "accepted", "flight")
    assert found.confidence == found.probabilities[0][1] > 0.8
    assert sum(share for _, share in found.probabilities) == pytest.approx(1, abs=1e-4)
    assert [share for _, share in found.probabilities] == sorted((share for _, share in found.probabilities), reverse=True)
    assert {"accept", "out_of_scope"} <= dict(found.thresholds).keys()


def test_what_no_domain_fits_gets_none(head: DomainHead) -> None:
    found = head.read("explain the theory behind magnetism", routing_data.encoder())
    assert (found.domain, found.outcome) == ("", "out_of_scope")
    assert found.out_of_scope > head.read("give me a recipe for pizza", routing_data.encoder()).out_of_scope


def test_a_sure_text_is_answered_without_the_encoder(head: DomainHead) -> None:
    assert head.trained is not None
    asked = []

    def counting(text: str) -> np.ndarray:
        asked.append(text)
        return routing_data.embed([text])[0]

    eager = replace(head, trained=replace(head.trained, sparse_gate=replace(head.trained.sparse_gate, sure=0.5)))
    assert eager.read("please book a flight to paris", counting).heads == ("sparse",)
    assert asked == []
    unsure = replace(head, trained=replace(head.trained, sparse_gate=replace(head.trained.sparse_gate, sure=np.inf)))
    assert unsure.read("please book a flight to paris", counting).heads == ("sparse", "dense")
    assert len(asked) == 1


def test_a_missing_encoder_is_said_and_the_ngrams_decide(head: DomainHead) -> None:
    assert head.trained is not None
    unsure = replace(head, trained=replace(head.trained, sparse_gate=replace(head.trained.sparse_gate, sure=np.inf)))
    found = unsure.read("book a flight to paris", absent)
    assert found.heads == ("sparse",)
    assert found.domain == "travel"
    assert "encoder is missing" in found.note and "minilm-l6" in found.note
    assert "switched off" in unsure.read("book a flight to paris").note


def test_another_encoder_than_the_trained_one_is_said(head: DomainHead) -> None:
    assert head.trained is not None
    unsure = replace(head, trained=replace(head.trained, sparse_gate=replace(head.trained.sparse_gate, sure=np.inf)))
    found = unsure.read("book a flight to paris", lambda text: np.ones(10, np.float32))
    assert found.heads == ("sparse",)
    assert "not the one" in found.note


def test_slips_of_the_finger_do_not_change_the_domain(head: DomainHead) -> None:
    encode = routing_data.encoder()
    for clean, slipped in (
        ("book a flight to paris", "boook a flihgt to pari"),
        ("give me a recipe for pizza", "gvie me a recipr for pizza"),
        ("turn the office volume down", "turn the offcie volme down"),
    ):
        assert head.read(slipped, encode).domain == head.read(clean, encode).domain != ""


@pytest.mark.parametrize("text", ["", "   \n\t", "\x00\x1b\x07", "\u200b\u200d", "?!...---"])
def test_texts_without_words_are_out_of_scope_and_it_is_said_or_read(head: DomainHead, text: str) -> None:
    found = head.read(text, routing_data.encoder())
    assert found.domain == ""
    assert found.outcome != "accepted"
    assert head.explain(text, routing_data.encoder()).changes


def test_control_characters_around_a_question_change_nothing(head: DomainHead) -> None:
    encode = routing_data.encoder()
    assert (
        head.read("\x1b book\x00a  flight\r\nto paris\x07", encode).probabilities
        == head.read("book a flight to paris", encode).probabilities
    )


def test_a_megabyte_is_read_as_its_begin_and_its_end(head: DomainHead) -> None:
    long = "book a flight to paris " + "nnn " * 250_000 + "book a flight to paris"
    found = head.read(long, routing_data.encoder())
    assert len(normalise(long).split()) == 64
    assert found.probabilities[0][0] == "travel"
    assert len(normalise("x" * 1_000_000)) <= 257
    head.read("x" * 1_000_000, routing_data.encoder())


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read_and_explained(text: str) -> None:
    head = DomainHead("v", ("a",), Spelling({"word": 3}), None)
    assert normalise(normalise(text)) == normalise(text)
    found = grams(text)
    assert len(found.hashes) == len(found.begins) == len(found.ends)
    assert all(found.name(at) for at in range(len(found.hashes)))
    assert head.spelling.mend(text) == head.spelling.mend(head.spelling.mend(text))


def test_equal_ngrams_have_equal_hashes_wherever_they_stand() -> None:
    one, two = grams("the train is late"), grams("why is the train late again")
    names = {two.name(at): two.hashes[at] for at in range(len(two.hashes))}
    shared = [(names[one.name(at)], one.hashes[at]) for at in range(len(one.hashes)) if one.name(at) in names]
    assert len(shared) > 20
    assert all(here == there for here, there in shared)
    assert len(set(two.hashes.tolist())) == len({(two.name(at), at < two.words) for at in range(len(two.hashes))})


def test_a_text_of_unknown_ngrams_has_an_empty_vector() -> None:
    known = vocabulary([grams("abc def"), grams("abc def")])
    columns, values, places = known.vector(grams("xyz"))
    assert (len(columns), len(values), len(places)) == (0, 0, 0)
    assert np.linalg.norm(known.vector(grams("abc def"))[1]) == pytest.approx(1, abs=1e-5)


def test_known_words_are_never_mended() -> None:
    spelling = learnt(["book a flight"] * 3, ["light", "flights", "magnetism"])
    assert spelling.mend("light flights bok flihgt magnetsim") == "light flights book flight magnetism"
    assert spelling.mend("Zürich 42 x") == "zürich 42 x"


def test_why_names_ngrams_neighbours_the_runner_up_and_what_would_change_it(head: DomainHead) -> None:
    why = head.explain("please book a flight to paris", routing_data.encoder())
    assert why.evidence.domain == "travel"
    assert any("flight" in name and weight > 0 for name, weight in why.ngrams)
    assert [weight for _, weight in why.ngrams] == sorted((weight for _, weight in why.ngrams), key=abs, reverse=True)
    assert len(why.nearest) == 3
    assert why.nearest[0][0].domain == "travel"
    assert why.nearest[0][1] == max(cosine for _, cosine in why.nearest) <= 1.001
    assert why.runner_up in ("music", "cooking")
    assert why.margin == pytest.approx(why.evidence.probabilities[0][1] - why.evidence.probabilities[1][1])
    assert any("below" in sentence for sentence in why.changes)


def test_why_says_what_would_bring_an_out_of_scope_text_in(head: DomainHead) -> None:
    why = head.explain("who invented democracy", routing_data.encoder())
    assert why.evidence.outcome == "out_of_scope"
    assert any("out of scope" in sentence for sentence in why.changes)


def test_a_saved_head_answers_as_before(head: DomainHead, tmp_path) -> None:
    head.save(tmp_path)
    again = DomainHead.load(tmp_path)
    for text in ("book a flight to paris", "who invented algebra", "is pizza healthy to eat"):
        old, new = head.read(text, routing_data.encoder()), again.read(text, routing_data.encoder())
        assert (old.domain, old.outcome, old.intent, old.heads) == (new.domain, new.outcome, new.intent, new.heads)
        assert old.confidence == pytest.approx(new.confidence, abs=0.01)
    assert again.seeds == head.seeds
    with np.load(tmp_path / "head.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


@pytest.mark.parametrize("file", ["head.json", "head.npz"])
@pytest.mark.parametrize("content", [b"", b"not this", b"{}", b"[1]", b"PK\x03\x04 cut"])
def test_damaged_files_are_named(head: DomainHead, tmp_path, file: str, content: bytes) -> None:
    head.save(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelInvalid, match=r"undo|another format"):
        DomainHead.load(tmp_path)


def test_parts_that_do_not_fit_together_are_refused(head: DomainHead, tmp_path) -> None:
    head.save(tmp_path)
    with np.load(tmp_path / "head.npz") as file:
        arrays = {name: file[name] for name in file.files}
    arrays["sparse"] = arrays["sparse"][:-1]
    np.savez(tmp_path / "head.npz", **arrays)
    with pytest.raises(ModelInvalid, match="do not fit together"):
        DomainHead.load(tmp_path)


def interlocked() -> tuple[np.ndarray, np.ndarray]:
    """Vectors whose label is the sign of the product of two dimensions: no linear head tells them apart."""
    vectors = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
    return vectors, (vectors[:, 0] * vectors[:, 1] > 0).astype(np.int64)


def test_pairs_learn_what_no_linear_head_can() -> None:
    vectors, labels = interlocked()
    mean = vectors[:300].mean(axis=0)
    pairs = _pairs(vectors[:300] - mean, one_hot(labels[:300], 2))
    scores = pairs.scores(vectors[300:] - mean)
    assert (scores.argmax(axis=1) == labels[300:]).mean() > 0.8
    assert np.allclose(pairs.scores(vectors[300] - mean), scores[0], atol=1e-5)


def test_pairs_are_kept_only_where_held_out_rows_gain_by_them() -> None:
    vectors, labels = interlocked()
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0)
    linear = Linear(np.zeros((6, 2), np.float32), np.zeros(2, np.float32))
    pairs = _pairs(vectors[:300] - mean, one_hot(labels[:300], 2))
    dense = Dense(mean, scale, linear, np.eye(2, 6, dtype=np.float32), pairs)
    held = (np.zeros((100, 2), np.float32), vectors[300:])
    assert _without_idle_pairs(dense, *held, labels[300:]).pairs is pairs
    assert _without_idle_pairs(dense, *held, labels[200:300]).pairs is None


def test_a_saved_head_keeps_its_pairs_and_refuses_strange_ones(head: DomainHead, tmp_path) -> None:
    assert head.trained is not None and head.trained.dense is not None and head.trained.dense.pairs is None
    dense, intents = head.trained.dense, len(head.trained.intents)
    axes = np.eye(len(dense.mean), 3, dtype=np.float32)
    paired = replace(dense, pairs=Pairs(axes, np.full((9, intents), 0.5, np.float32)))
    replace(head, trained=replace(head.trained, dense=paired)).save(tmp_path)
    again = DomainHead.load(tmp_path).trained
    assert again is not None and again.dense is not None
    vector = routing_data.encoder()("play some jazz music")
    assert np.allclose(again.dense.logits(vector), paired.logits(vector), atol=1e-5)
    with np.load(tmp_path / "head.npz") as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(tmp_path / "head.npz", **(arrays | {"pairs_axes": axes[:, :2]}))
    with pytest.raises(ModelInvalid, match="do not fit together"):
        DomainHead.load(tmp_path)


def test_the_encoder_is_asked_once_for_a_text_and_keeps_a_thousand() -> None:
    asked = []

    def embed(texts):
        asked.extend(texts)
        return routing_data.embed(texts)

    encoder = Encoder(embed, "counting")
    assert np.array_equal(encoder("one text"), encoder("one text"))
    assert asked == ["one text"]
    for number in range(1_000):
        encoder(f"text {number}")
    encoder("one text")
    assert asked.count("one text") == 2


def test_an_absent_encoder_is_not_looked_for_at_every_question() -> None:
    asked = []

    def embed(texts):
        asked.append(texts)
        raise ModelMissing("not there", "")

    encoder = Encoder(embed, "absent")
    for number in range(100):
        with pytest.raises(ModelMissing, match="not there"):
            encoder(f"text {number}")
    assert 1 <= len(asked) <= 4


def test_vectors_of_many_texts_are_kept_on_disk_and_a_damaged_file_is_made_anew(home) -> None:
    asked = []

    def embed(texts):
        asked.extend(texts)
        return routing_data.embed(texts)

    texts = ["one", "two", "one", "three"]
    first = Encoder(embed, "kept").many(texts)
    assert np.array_equal(first, Encoder(embed, "kept").many(texts))
    assert sorted(asked) == ["one", "three", "two"]
    assert np.array_equal(first[0], first[2])
    (file,) = (home / "cache" / "vectors").iterdir()
    assert b"three" not in file.read_bytes()
    file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(first, Encoder(embed, "kept").many(texts))
    assert len(asked) == 6


def test_long_texts_are_cut_to_what_the_encoder_reads() -> None:
    words = [f"w{number}" for number in range(100)]
    cut = shortened(" ".join(words)).split()
    assert cut == [*words[:48], *words[-16:]]
    assert shortened("a b c") == "a b c"
    assert len(shortened("x" * 5_000)) <= 384


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> str:
    from data import catalog
    from export.encoder import convert

    target = tmp_path_factory.mktemp("encoder") / "F16.gguf"
    convert(catalog.source_file(catalog.specs()["minilm-l6"]), target, "all-MiniLM-L6-v2", "apache-2.0")
    return str(target)


def test_the_real_encoder_gives_its_own_vector_and_those_of_two_layers(converted: str) -> None:
    from data.config import LlamaCppSettings
    from router.engines.llamacpp import LlamaCpp

    engine = LlamaCpp(LlamaCppSettings())
    texts = [f"the train to {town} is late" for town in ("paris", "rome and then to the sea", "oslo")] * 8
    together = engine.embed_layers(texts, 2, model=converted)
    alone = np.concatenate([engine.embed_layers([text], 2, model=converted) for text in texts[:3]])
    own = engine.embed(texts, model=converted)
    words = engine.words(model=converted)
    engine.close()
    assert together.shape == (24, 3 * 384)
    assert np.abs(together[:, :384] - own).max() < 1e-3
    assert np.abs(together[:3] - alone).max() < 5e-3
    assert np.allclose(np.linalg.norm(together.reshape(24, 3, 384), axis=2), 1, atol=1e-3)
    assert np.abs(together[:, 384:768] - together[:, 768:]).max() > 0.01
    assert {"the", "train", "station"} <= set(words)
    assert len(words) > 20_000
