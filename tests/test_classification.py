"""Classification: whose word counts, what stands in the output, and what happens where a voice is missing."""

import numpy as np
import pytest
from command_line import prepared_as_packaged
from packs import LABELS, Oracle, pack

from data.config import Settings
from data.errors import ContextOverflow, EngineUnavailable, ModelMissing
from router.classification import GROUP, Classifier
from router.domain_calibration import Calibration, fit
from router.engines import Engines

MODEL = "echo/echo"
SURE = {"stole": {"FRAUD": 0.9, "INFO": 0.1}, "log in": {"RESET": 0.8}, "open": {"INFO": 0.6, "FRAUD": 0.4}}
WHOLE = {
    "type": "object",
    "properties": {
        "label": {"enum": list(LABELS)},
        "risk": {"enum": ["none", "low", "high"]},
        "why": {"type": "string", "maxLength": 40},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1, "x-from": "probability", "x-field": "label"},
        "risk_confidence": {"type": "number", "minimum": 0, "maximum": 1, "x-from": "probability", "x-field": "risk"},
    },
    "required": ["label", "risk", "why", "confidence", "risk_confidence"],
    "additionalProperties": False,
}
RULES = """
[[rule]]
name = "code"
priority = 5
when = 'keyword("one-time code")'
set = { label = "FRAUD", risk = "high" }
reason = "asked for a code"
[[rule]]
name = "figure"
when = 'keyword("killing me")'
never = { risk = ["high"], label = ["FRAUD"] }
at_most = { confidence = 0.3 }
"""


def classifier(oracle: Oracle, domain=None, **more) -> Classifier:
    found = domain or pack()
    return Classifier(found, Engines(Settings(), {"echo": oracle}), more.pop("model", MODEL), **more)


def test_the_label_is_the_likeliest_and_its_probability_the_confidence():
    found = list(classifier(Oracle(SURE)).classify(["someone stole my card", "I cannot log in"]))
    assert [one.label for one in found] == ["FRAUD", "RESET"]
    first = found[0]
    assert first.confidence == first.probabilities["FRAUD"] == pytest.approx(0.9, abs=0.01)
    assert list(first.probabilities) == ["FRAUD", "INFO", "RESET"] and sum(first.probabilities.values()) == pytest.approx(
        1, abs=1e-4
    )
    assert first.output == {"label": "FRAUD"} and first.json_valid and first.model == MODEL and not first.fault
    assert "too few validation rows" in first.reason


def test_answers_come_in_order_over_many_groups():
    texts = [f"{'someone stole' if at % 3 else 'cannot log in'} {at}" for at in range(2 * GROUP + 5)]
    found = list(classifier(Oracle(SURE)).classify(iter(texts)))
    assert [one.text for one in found] == texts
    assert [one.label for one in found] == ["FRAUD" if at % 3 else "RESET" for at in range(len(texts))]


def test_a_rule_has_the_last_word_on_label_and_output():
    oracle = Oracle({"code": {"INFO": 0.99, "none": 0.9}})
    found = next(classifier(oracle, pack(schema=WHOLE, rules=RULES)).classify(["he asked for my one-time code"]))
    assert found.label == "FRAUD" and found.confidence == 1.0
    assert found.output == {"label": "FRAUD", "risk": "high", "why": "so", "confidence": 1.0, "risk_confidence": 1.0}
    assert found.voices[0].name == "rules" and "asked for a code" in found.reason
    assert found.voices[1].probabilities["INFO"] > 0.9  # what the model said stays visible


def test_what_a_rule_forbids_gives_way_to_the_next_most_probable():
    oracle = Oracle({"killing": {"FRAUD": 0.7, "INFO": 0.2, "RESET": 0.1, "high": 0.8, "low": 0.15, "none": 0.05}})
    found = next(classifier(oracle, pack(schema=WHOLE, rules=RULES)).classify(["this queue is killing me"]))
    assert found.label == "INFO" and found.probabilities["FRAUD"] == 0
    assert found.output["risk"] == "low" and found.output["confidence"] == 0.3
    assert found.confidence == pytest.approx(2 / 3, abs=0.01)


def test_the_model_alone_writes_its_answer_in_one_go():
    oracle = Oracle({"stole": {"FRAUD": 0.9, "high": 0.7, "low": 0.3}})
    found = next(classifier(oracle, pack(schema=WHOLE)).classify(["someone stole it"]))
    assert found.output["label"] == "FRAUD" and found.output["risk_confidence"] == pytest.approx(0.7, abs=0.01)
    assert [text for text, _ in oracle.completed].count("someone stole it") == 1 and found.json_valid


def test_in_a_mix_the_rest_is_written_with_the_decided_label_in_place():
    prepared_as_packaged_encoder()
    oracle = Oracle({"stole": {"INFO": 0.5, "FRAUD": 0.5, "high": 0.7, "low": 0.3}})
    found = next(classifier(oracle, pack(schema=WHOLE), hybrid=True).classify(["someone stole my card"]))
    assert found.label == found.output["label"] == "FRAUD" and found.json_valid
    assert oracle.completed[-1][1].root.parts[0].text == '{"label": "FRAUD", "risk": '


def test_a_faulty_row_is_told_and_the_others_go_on():
    oracle = Oracle(SURE, faults={"long": ContextOverflow("the text is too long", "shorten it")})
    found = list(classifier(oracle).classify(["long", "someone stole it", "", "  "]))
    assert [bool(one.fault) for one in found] == [True, False, True, True]
    assert "too long" in found[0].fault and found[1].label == "FRAUD"
    assert "empty" in found[2].fault and found[2].label == "" and found[2].output == {}


def test_without_probabilities_the_confidence_is_unavailable():
    found = next(classifier(Oracle(SURE, silent=True)).classify(["someone stole it"]))
    assert found.label == "FRAUD" and found.confidence is None and found.probabilities == {}
    assert "unavailable" in found.reason


def test_a_named_model_that_is_absent_is_a_fault():
    with pytest.raises(EngineUnavailable):
        list(classifier(Oracle(SURE, absent=EngineUnavailable("nothing answers"))).classify(["x"]))


def test_the_base_takes_the_place_of_a_tuned_model_that_is_absent():
    settings = Settings.model_validate({"router": {"models": {"desk": "gone/model"}}})
    domain = pack(toml='base_models = ["echo/echo"]\n')
    found = Classifier(domain, Engines(settings, {"echo": Oracle(SURE)}))
    answer = next(found.classify(["someone stole it"]))
    assert answer.label == "FRAUD" and answer.model == "echo/echo"


def test_hybrid_goes_on_with_the_encoder_where_no_model_can_be_had():
    prepared_as_packaged_encoder()
    oracle = Oracle({}, absent=ModelMissing("no such model"))
    found = list(classifier(oracle, hybrid=True).classify(["a stranger took money from my card", "reset the password please"]))
    assert [one.label for one in found] == ["FRAUD", "RESET"]
    assert found[0].model == "" and "absent" in found[0].reason and found[0].output == {"label": "FRAUD"} and not found[0].fault


def test_every_voice_is_visible_in_a_mix():
    prepared_as_packaged_encoder()
    found = next(classifier(Oracle(SURE), hybrid=True).classify(["someone stole my card"]))
    assert [one.name for one in found.voices] == ["model", "encoder", "combined"]
    assert found.voices[1].probabilities["FRAUD"] > 0.5 and "weights" in found.voices[2].note
    assert found.label == "FRAUD" and found.confidence == found.voices[2].probabilities["FRAUD"]


def test_the_calibration_is_fitted_once_and_kept():
    rows = [
        {"text": f"{word} {at}", "label": label, "output": {"label": label}, "split": split}
        for label, word in (("FRAUD", "stole"), ("RESET", "log in"), ("INFO", "open"))
        for at in range(6)
        for split in ("train", "validation")
    ]
    domain = pack(examples=[row | {"text": f"{row['text']} {row['split']}"} for row in rows])
    shares = {
        word: {label: 0.6, "INFO" if label != "INFO" else "FRAUD": 0.4}
        for word, label in (("stole", "FRAUD"), ("log in", "RESET"), ("open", "INFO"))
    }
    first = Oracle(shares)
    answer = next(classifier(first, domain).classify(["they stole it"]))
    assert "calibrated on 18 rows" in answer.reason
    assert answer.confidence > 0.9  # always right at 0.6: the temperature says so
    again = Oracle(shares)
    assert next(classifier(again, domain).classify(["they stole it"])).confidence == answer.confidence
    assert len(first.completed) == 19 and len(again.completed) == 1


def test_weights_follow_what_the_voices_are_worth():
    labels = ["a", "b"] * 20
    right = np.array([[0.8, 0.2] if label == "a" else [0.2, 0.8] for label in labels], np.float32)
    noise = np.array([[0.9, 0.1] if at % 4 < 2 else [0.1, 0.9] for at in range(40)], np.float32)
    weights = dict(fit(labels, ["a", "b"], np.log(noise), right).weights)
    assert weights["encoder"] > 0 and weights["model"] <= 0.1 * weights["encoder"]
    assert fit(labels[:4], ["a", "b"], np.log(noise[:4]), right[:4]) == Calibration()
    with pytest.raises(ValueError, match="nobody"):
        Calibration().pooled({})


def test_classifying_with_the_embedded_model_gives_exact_probabilities():
    prepared_as_packaged()
    engines = Engines(Settings())
    try:
        found = list(
            Classifier(pack(schema=WHOLE), engines, "llamacpp/smollm2-135m").classify(
                ["someone stole my card", "x" * 5, "I forgot it"]
            )
        )
    finally:
        engines.close()
    for one in found:
        assert not one.fault and one.json_valid and one.output["label"] == one.label
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-3)
        assert one.output["confidence"] == pytest.approx(one.confidence, abs=1e-4)


def prepared_as_packaged_encoder() -> None:
    """The real encoder in this home."""
    from export import embedded

    embedded.prepare("minilm-l6", lambda line: None)
