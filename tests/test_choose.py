"""Choosing the form that is served: the fastest that says and does the same, by made-up figures and by real small files."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_quantise import make_llama

from data.errors import InputError, ModelInvalid
from export import choose, embedded, quantise
from export.choose import Limits, Measured, auto, why
from export.fidelity import Figures
from export.quantise import Speed

F16 = Measured("F16", 1000, 0.0, turn_s=4.0)
Q8 = Measured("Q8_0", 500, 0.004, turn_s=2.0)
Q4 = Measured("Q4_0", 300, 0.15, turn_s=1.0, refused=("it is far off",))
SAME = Figures(perplexity=8.0, rise=0.0, rise_error=0.0, kl_mean=0.0, kl_max=0.0, agreement=1.0, clear_changes=0)


def test_the_fastest_that_is_not_refused_is_chosen_and_the_reasons_are_told() -> None:
    found = [F16, Q8, Q4]
    assert auto(found) is Q8
    assert why(Q8, found) == (
        "Q8_0 is the fastest form here that says the same: F16 takes 2.00 times as long; Q4_0 is refused: it is far off"
    )


def test_of_forms_as_good_as_equally_fast_the_smallest_is_chosen() -> None:
    near = Measured("Q6_K", 400, 0.01, turn_s=2.0 * embedded.TIE - 1e-6)
    far = Measured("Q5_K_M", 350, 0.01, turn_s=2.0 * embedded.TIE + 0.01)
    assert auto([F16, Q8, near, far]) is near
    assert "Q8_0 is no faster and larger" in why(near, [F16, Q8, near, far])


def test_without_speeds_the_smallest_of_the_admissible_is_chosen() -> None:
    found = [Measured("F16", 1000, 0.0), Measured("Q8_0", 500, 0.004), Measured("Q4_0", 300, 0.15, refused=("it is far off",))]
    assert auto(found).form == "Q8_0"


@pytest.mark.parametrize(
    ("forms", "chosen"), [(("Q4_0", "Q8_0", "F16"), "F16"), (("Q4_0", "Q8_0"), "Q8_0"), (("Q4_0", "Q6_K"), "Q6_K")]
)
def test_where_every_form_is_refused_the_most_exact_is_served_and_says_why(forms: tuple[str, ...], chosen: str) -> None:
    found = [Measured(form, 100, 0.5 if form == "Q4_0" else 0.1, turn_s=1.0, refused=(f"{form} is bad",)) for form in forms]
    best = auto(found)
    assert best.form == chosen
    line = why(best, found)
    assert line.startswith("every form is refused")
    assert all(f"{form} is bad" in line for form in forms)


def test_without_forms_nothing_is_chosen() -> None:
    with pytest.raises(InputError, match="no form"):
        auto([])
    for files, texts in (({}, ["x"]), ({"F16": Path("x")}, [])):
        with pytest.raises(InputError, match="there are none"):
            choose.measured(files, texts)


class Machine:
    """Stands in for the child process: figures and speeds by the name of a file."""

    def __init__(self, rows: dict[str, tuple[Figures, Speed | None]]) -> None:
        self.rows = rows

    def __call__(
        self, files: Sequence[Path], texts: Sequence[str], rounds: int, seconds: float
    ) -> list[tuple[Figures, Speed | None]]:
        return [self.rows[file.stem] for file in files]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for form, size in (("F16", 1000), ("Q8_0", 500), ("Q4_0", 300)):
        found[form] = tmp_path / f"{form}.gguf"
        found[form].write_bytes(b"x" * size)
    return found


def figures(**changes: float) -> Figures:
    return replace(SAME, **changes)


SPEEDS = {"F16": Speed(100.0, 10.0, 1, "wall"), "Q8_0": Speed(200.0, 20.0, 1, "wall"), "Q4_0": Speed(400.0, 40.0, 1, "wall")}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kl_mean": 0.21}, "0.2100 nats from the original's, 0.2 at most"),
        ({"kl_mean": math.nan}, "nan nats from"),
        ({"fall": 0.02}, "2.0 % less often"),
        ({"fall": 0.05, "fall_error": 0.015}, "5.0 % less often"),
        ({"fall": math.nan}, "less often"),
    ],
)
def test_each_gate_refuses_alone(
    change: dict[str, float], complaint: str, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"F16": SAME, "Q8_0": SAME, "Q4_0": figures(**change)}
    monkeypatch.setattr(choose, "measure", Machine({form: (one, SPEEDS[form]) for form, one in rows.items()}))
    found = choose.measured(files, ["x"], turn=(100, 10))
    assert [len(one.refused) for one in found] == [0, 0, 1]
    assert complaint in found[2].refused[0]
    assert [one.turn_s for one in found] == [2.0, 1.0, 0.5]
    assert auto(found).form == "Q8_0"
    assert found[2].row()["refused"] == found[2].refused[0]


@pytest.mark.parametrize("change", [{"kl_mean": 0.19}, {"fall": 0.004}, {"fall": 0.05, "fall_error": 0.02}, {"fall": -0.3}])
def test_what_chance_explains_is_admissible(
    change: dict[str, float], files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"F16": SAME, "Q8_0": SAME, "Q4_0": figures(**change)}
    monkeypatch.setattr(choose, "measure", Machine({form: (one, SPEEDS[form]) for form, one in rows.items()}))
    assert auto(choose.measured(files, ["x"])).form == "Q4_0"


def test_limits_of_a_recipe_count_instead(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"F16": SAME, "Q8_0": figures(kl_mean=0.004), "Q4_0": figures(kl_mean=0.15)}
    monkeypatch.setattr(choose, "measure", Machine({form: (one, SPEEDS[form]) for form, one in rows.items()}))
    found = choose.measured(files, ["x"], Limits(kl={"Q4_0": 0.1, "Q8_0": 0.003}))
    assert [bool(one.refused) for one in found] == [False, True, True]
    unknown = choose.measured(files, ["x"], Limits(kl={}))
    assert "0.001 at most" in unknown[1].refused[0]  # a form without a limit gets the strictest


def test_a_form_that_does_the_task_worse_than_chance_explains_is_refused(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "measure", Machine({form: (SAME, SPEEDS[form]) for form in SPEEDS}))
    rows = {"F16": [1.0] * 90 + [0.0] * 10, "Q8_0": [1.0] * 89 + [0.0] * 11, "Q4_0": [1.0] * 70 + [0.0] * 30}
    asked: list[str] = []

    def task(file: Path) -> list[float]:
        asked.append(file.stem)
        return rows[file.stem]

    found = choose.measured(files, ["x"], task=task)
    assert asked == ["F16", "Q8_0", "Q4_0"]
    assert [one.task for one in found] == pytest.approx([0.9, 0.89, 0.7])
    assert [bool(one.refused) for one in found] == [False, False, True]
    assert found[2].refused == ("its task score is 0.700, the original's 0.900",)
    by_score = choose.measured(files, ["x"], task=lambda file: float(np.mean(rows[file.stem])))
    assert [bool(one.refused) for one in by_score] == [False, False, True]
    assert by_score[1].row()["task"] == 0.89


def test_a_refused_form_is_not_judged_and_scores_of_other_rows_are_refused(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"F16": SAME, "Q8_0": SAME, "Q4_0": figures(kl_mean=1.0)}
    monkeypatch.setattr(choose, "measure", Machine({form: (one, None) for form, one in rows.items()}))
    found = choose.measured(files, ["x"], task=lambda file: 0.5)
    assert [one.task for one in found] == [0.5, 0.5, None]
    assert "task" not in found[2].row()
    assert "decode" not in found[0].row()
    with pytest.raises(InputError, match="same rows"):
        choose.measured(files, ["x"], task=lambda file: [1.0] * len(file.stem))


def test_a_score_that_is_no_number_refuses(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "measure", Machine({form: (SAME, None) for form in SPEEDS}))
    found = choose.measured(files, ["x"], task=lambda file: math.nan if file.stem == "Q8_0" else 0.5)
    assert [bool(one.refused) for one in found] == [False, True, False]


def test_real_files_are_measured_and_one_is_chosen(tmp_path: Path) -> None:
    made = {"F16": tmp_path / "F16.gguf", "Q8_0": tmp_path / "Q8_0.gguf", "Q4_0": tmp_path / "Q4_0.gguf"}
    source = make_llama(tmp_path / "F32.gguf")
    for form, file in made.items():
        quantise.quantise(source, file, form)
    texts = ["Some text to read, of a little length.", [3 + byte for byte in b"and the tokens of another"]]
    found = choose.measured(made, texts, rounds=1, seconds=60)
    assert found[0].kl_mean == 0 < found[1].kl_mean < found[2].kl_mean
    assert all(one.turn_s > 0 and one.bytes == made[one.form].stat().st_size for one in found)
    best = auto(found)
    assert not best.refused
    assert best.turn_s <= min(one.turn_s for one in found if not one.refused) * embedded.TIE
    made["Q4_0"].write_bytes(made["Q4_0"].read_bytes()[:3000])
    with pytest.raises(ModelInvalid, match=r"Q4_0\.gguf cannot be measured"):
        choose.measured(made, texts, rounds=0)
