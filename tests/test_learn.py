"""A learn from log to promotion: each step once, whatever breaks it off; gates that stop it; nothing promoted that failed.

Training, export, verification and replay are replaced here (`learnable.Stubs`); with real ones it runs in test_learn_really.py.
"""

import json
import shutil
from pathlib import Path

import pytest
from learnable import DOMAIN, Stubs, ask, domain, said
from registry_support import champion

from data import config, paths
from data.errors import InputError, NotFound
from data.store import Store, open_store
from tui.learn import course, dataset, judging, mixing
from tui.learn import state as states
from tui.learn.course import Scarce
from tui.learn.state import State

STEPS = ("dataset", "training", "gates", "export", "verify", "replay", "promotion")


@pytest.fixture
def store(home: Path) -> Store:
    with open_store() as opened:
        yield opened


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Stubs:
    return Stubs().install(monkeypatch)


def learn(store: Store, least: int = 16, **asked) -> State:
    """One learn of the domain to where it ends."""
    with states.locked(DOMAIN):
        state, needed = course.begun(DOMAIN, store, least=least, **asked)
        return course.run(state, store, config.load()) if needed else state


def hidden() -> list[str]:
    """Hidden files and folders of the data folder but locks: what killed processes leave."""
    found = (one for one in paths.data_dir().rglob(".*") if not one.name.endswith(".lock"))
    return [str(one.relative_to(paths.data_dir())) for one in found]


def test_one_learn_does_every_step_once_and_promotes(store, stubs):
    domain()
    said(store, 24)
    state = learn(store, to="champion")
    assert (state.outcome, tuple(one.step for one in state.steps)) == ("promoted", STEPS)
    assert stubs.count == {"training": 1, "export": 1, "verify": 1, "replay": 1}
    found = store.registry.champion(DOMAIN)
    assert found.id == state.facts("promotion")["version"]
    assert found.lineage.corrections and found.lineage.corrections > 0
    assert states.read(state.folder) == state
    assert hidden() == []


def test_the_gates_of_the_learn_stand_in_the_registry_with_the_version(store, stubs):
    domain()
    said(store, 24)
    learn(store, to="champion")
    names = [one.name for one in store.registry.explain(DOMAIN).decision.gates]
    assert "replay: corrections kept" in names and "run: accuracy" in names
    assert any(name.startswith("the pack's rows") for name in names) and any(name.startswith("your rows") for name in names)


def test_without_being_told_the_result_becomes_a_canary(store, stubs):
    domain()
    said(store, 24)
    state = learn(store)
    assert state.facts("promotion")["stage"] == "canary"
    assert [one.version for one in store.experiments.running()] == [state.facts("promotion")["version"]]
    assert "champion" not in store.registry.aliases(DOMAIN)


@pytest.mark.parametrize("step", ["training", "export", "verify", "replay"])
def test_a_learn_that_broke_off_goes_on_and_repeats_nothing(store, monkeypatch, step):
    stubs = Stubs(fault={step: KeyboardInterrupt()}).install(monkeypatch)
    domain()
    said(store, 24)
    with pytest.raises(KeyboardInterrupt):
        learn(store, to="champion")
    left = states.unfinished(DOMAIN)
    assert left is not None and tuple(one.step for one in left.steps) == STEPS[: STEPS.index(step)]
    state = learn(store, to="champion")
    assert (state.id, state.outcome) == (left.id, "promoted")
    assert stubs.count == {one: 2 if one == step else 1 for one in ("training", "export", "verify", "replay")}


@pytest.mark.parametrize("step", STEPS)
def test_killed_between_a_step_and_its_note_the_step_is_found_done(store, stubs, monkeypatch, step):
    domain()
    said(store, 24)
    noted = State.after

    def after(state, name, facts, gates=()):
        if name == step:
            raise KeyboardInterrupt
        return noted(state, name, facts, gates)

    monkeypatch.setattr(State, "after", after)
    with pytest.raises(KeyboardInterrupt):
        learn(store, to="champion")
    monkeypatch.setattr(State, "after", noted)
    state = learn(store, to="champion")
    assert state.outcome == "promoted"
    assert stubs.count["training"] == stubs.count["export"] == 1
    versions = store.registry.versions(DOMAIN)
    assert [one.stage for one in versions] == ["champion"]
    assert hidden() == []


def test_resume_without_anything_to_resume_says_how_to_begin(store, stubs):
    domain()
    said(store, 24)
    with pytest.raises(NotFound, match="broke off"):
        learn(store, resume=True)


def test_another_recipe_than_the_one_that_broke_off_is_refused(store, monkeypatch, tmp_path):
    Stubs(fault={"training": KeyboardInterrupt()}).install(monkeypatch)
    domain()
    said(store, 24)
    with pytest.raises(KeyboardInterrupt):
        learn(store)
    other = tmp_path / "other.toml"
    other.write_text(f'name = "other"\ndomain = "{DOMAIN}"\n')
    with pytest.raises(InputError, match="another recipe"):
        learn(store, recipe=str(other))


def test_begun_anew_the_one_that_broke_off_is_given_up_and_its_rows_go(store, monkeypatch):
    Stubs(fault={"training": KeyboardInterrupt()}).install(monkeypatch)
    domain()
    said(store, 24)
    with pytest.raises(KeyboardInterrupt):
        learn(store)
    left = states.unfinished(DOMAIN)
    state = learn(store, anew=True)
    assert state.id != left.id and state.outcome == "promoted"
    assert states.read(left.folder).outcome == "given up" and not left.dataset.exists()


def test_where_nothing_was_said_since_nothing_is_learnt_again(store, stubs):
    domain()
    said(store, 24)
    first = learn(store, to="champion")
    assert learn(store, to="champion").id == first.id
    assert stubs.count["training"] == 1
    ask(store, "ba be bi bo bu da zzz", '{"label": "INFO"}')
    store.feedback.correct(store.log.conversations(limit=1)[0].id and _last(store), "FRAUD")
    assert learn(store, to="champion").id != first.id
    assert stubs.count["training"] == 2
    assert [one.stage for one in store.registry.versions(DOMAIN)].count("champion") == 1


def _last(store: Store) -> str:
    """The newest answer."""
    turns = store.log.turns(store.log.conversations(limit=1)[0].id)
    return turns[-1].inference.id


def test_a_failed_gate_of_the_run_ends_the_learn_with_its_evidence_and_no_promotion(store, monkeypatch):
    stubs = Stubs(passed=False, right=0.4).install(monkeypatch)
    domain()
    said(store, 24)
    state = learn(store, to="champion")
    assert state.outcome == "failed" and "accuracy" in state.reason
    assert stubs.count == {"training": 1}
    assert store.registry.versions(DOMAIN) == []
    run = paths.data_dir() / "runs" / state.facts("training")["run"]
    assert run.is_dir() and state.dataset.is_dir()


def test_feedback_that_agrees_with_itself_and_not_with_the_pack_is_stopped(store, monkeypatch):
    pack = domain()
    held = frozenset(one.text for one in pack.examples if one.split == "validation")
    Stubs(wrong_in=held).install(monkeypatch)
    said(store, 24, flipped=True)
    state = learn(store, to="champion")
    assert state.outcome == "failed" and "the pack's rows" in state.reason
    assert "champion" not in store.registry.aliases(DOMAIN)


@pytest.mark.parametrize(("wrong", "reason"), [("checked", "export"), ("verified", "verify")])
def test_an_export_that_fails_a_check_is_never_promoted(store, monkeypatch, wrong, reason):
    Stubs(**{wrong: False}).install(monkeypatch)
    domain()
    said(store, 24)
    state = learn(store, to="champion")
    assert state.outcome == "failed" and reason in state.reason
    assert store.registry.versions(DOMAIN) == []


def test_a_replay_that_breaks_a_correction_stops_it(store, monkeypatch):
    Stubs(broken=2).install(monkeypatch)
    domain()
    said(store, 24)
    state = learn(store, to="champion")
    assert state.outcome == "failed" and "corrections kept" in state.reason
    assert store.registry.versions(DOMAIN) == []


def test_a_failed_learn_is_not_repeated_until_something_is_said(store, monkeypatch):
    stubs = Stubs(broken=1).install(monkeypatch)
    domain()
    said(store, 24)
    first = learn(store)
    assert learn(store).id == first.id and stubs.count["training"] == 1


def test_too_little_leaves_nothing_and_says_how_much_is_missing(store, stubs):
    domain()
    said(store, 12)
    with pytest.raises(Scarce, match="76 more answers that you liked or corrected") as caught:
        learn(store, least=0)
    assert len(caught.value.missing) == 1
    assert states.found(DOMAIN) == [] and stubs.count == {}


def test_nothing_said_at_all_is_told_as_that(store, stubs):
    domain()
    with pytest.raises(Scarce, match="0 of 88"):
        learn(store, least=0)
    assert not list(states.folder().glob(f"{DOMAIN}-*"))


def test_two_processes_cannot_learn_one_domain(store, stubs):
    domain()
    with states.locked(DOMAIN), pytest.raises(InputError, match="another process"), states.locked(DOMAIN):
        pass


def test_what_a_killed_process_left_is_cleared_by_the_next(store, stubs):
    domain()
    said(store, 24)
    half = paths.ensure(states.folder() / f"{DOMAIN}-20261121-000000-abcdef")
    (half / ".state.json.ab12cd_x").write_text("{")
    other = paths.ensure(states.folder() / "other-20261121-000000-abcdef")
    state = learn(store, to="champion")
    assert state.outcome == "promoted" and not half.exists()
    assert other.is_dir()  # not this domain's


def test_a_damaged_state_is_left_alone_and_not_gone_on_with(store, stubs):
    domain()
    said(store, 24)
    place = paths.ensure(states.folder() / f"{DOMAIN}-20261121-000000-abcdef")
    (place / states.FILE).write_text('{"id": "../../etc"}')
    with pytest.raises(InputError, match="damaged"):
        states.read(place)
    assert states.unfinished(DOMAIN) is None
    assert learn(store).outcome == "promoted"


def test_a_dataset_changed_between_steps_is_refused(store, monkeypatch):
    Stubs().install(monkeypatch)
    domain()
    said(store, 24)
    noted = State.after
    monkeypatch.setattr(State, "after", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        learn(store)
    monkeypatch.setattr(State, "after", noted)
    left = states.unfinished(DOMAIN)
    with (left.dataset / "train.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(InputError, match="was changed"):
        learn(store)


def test_the_run_is_on_the_base_of_the_champion(store, stubs):
    domain()
    said(store, 24)
    first = learn(store, to="champion")
    run = paths.data_dir() / "runs" / first.facts("training")["run"]
    (run / "recipe.toml").write_text(f'name = "r"\ndomain = "{DOMAIN}"\n[base]\nmodel = "some-other-base"\n')
    said(store, 5, seed=9)
    learn(store, to="champion")
    assert [one.base.model for one in stubs.recipes] == ["smollm2-135m", "some-other-base"]


def test_where_the_run_of_the_champion_is_gone_the_base_is_the_recipes(store, stubs):
    domain()
    champion(store, "old", DOMAIN)
    said(store, 24)
    learn(store, to="champion")
    assert stubs.recipes[0].base.model == "smollm2-135m"


def test_the_recipe_mixes_the_users_rows_with_the_packs(store, stubs):
    domain(train=80)
    said(store, 60)
    state = learn(store, least=20)
    (recipe,) = stubs.recipes
    assert recipe.data.train == (str(state.dataset),) and recipe.data.pack
    assert recipe.data.validation == (str(state.dataset), "pack")
    assert recipe.stages[0].loss.own == 4.0  # 240 of the pack against 60
    assert [one.kind for one in recipe.stages] == ["sft", "dpo"]  # corrections are pairs as well


def test_a_recipe_that_was_given_keeps_its_stages_and_weights(store, stubs, tmp_path):
    domain(train=80)
    said(store, 60)
    mine = tmp_path / "mine.toml"
    mine.write_text(f'name = "mine"\ndomain = "{DOMAIN}"\n[[stages]]\nkind = "sft"\nepochs = 7\n')
    learn(store, recipe=str(mine))
    (recipe,) = stubs.recipes
    assert [(one.kind, one.epochs, one.loss.own) for one in recipe.stages] == [("sft", 7.0, 1.0)]


def test_a_recipe_for_another_domain_is_refused_before_anything_trains(store, stubs, tmp_path):
    domain()
    said(store, 24)
    other = tmp_path / "other.toml"
    other.write_text('name = "other"\ndomain = "triage"\n')
    with pytest.raises(InputError, match="for triage, not for desk"):
        learn(store, recipe=str(other))
    assert stubs.count == {} and states.found(DOMAIN) == []


def test_a_domain_on_trial_takes_no_second_canary(store, stubs):
    domain()
    said(store, 24)
    learn(store)
    said(store, 5, seed=9)
    with pytest.raises(InputError, match="experiment stop"):
        learn(store)
    assert learn(store, to="staging").outcome == "promoted"


def test_what_was_promoted_and_taken_back_meanwhile_is_not_promoted_again(store, stubs, monkeypatch):
    domain()
    said(store, 24)
    noted = State.after

    def after(state, name, facts, gates=()):
        if name == "promotion":
            raise KeyboardInterrupt
        return noted(state, name, facts, gates)

    monkeypatch.setattr(State, "after", after)
    with pytest.raises(KeyboardInterrupt):
        learn(store, to="champion")
    store.registry.rollback(DOMAIN, who="anna", why="bad", to_base=True)
    monkeypatch.setattr(State, "after", noted)
    state = learn(store, to="champion")
    assert state.outcome == "failed" and "taken back" in state.reason
    assert "champion" not in store.registry.aliases(DOMAIN)


def test_few_rows_of_a_kind_are_said_to_be_not_checked(store, stubs):
    pack = domain(held=1)
    said(store, 24)
    state = learn(store)
    found = {one.name: one.passed for one in judging.held(paths.data_dir() / "runs" / state.facts("training")["run"], pack)}
    assert found["the pack's rows: not worse than the base"] is None


def test_the_rows_of_the_past_that_were_trained_on_are_known_by_conversation(store, stubs):
    domain()
    said(store, 24)
    state = learn(store)
    groups = dataset.trained(state.dataset)
    test = {row.group for row in dataset.rows(state.dataset, "test")}
    assert groups and test and not groups & test


def test_the_runs_name_is_this_learns_alone(store, stubs):
    domain()
    said(store, 24)
    one, other = learn(store, to="champion"), learn(store, to="champion", anew=True)
    assert mixing.run_name(one) != mixing.run_name(other)
    shutil.rmtree(one.folder)
    assert json.loads((other.folder / states.FILE).read_text())["outcome"] == "promoted"


def test_a_recipe_for_no_domain_goes_on_from_the_champions_adapter(store, stubs):
    domain()
    said(store, 24)
    first = learn(store, to="champion")
    said(store, 5, seed=9)
    learn(store, to="champion", recipe="style")
    recipe = stubs.recipes[-1]
    assert recipe.domain == DOMAIN and recipe.base.adapter.endswith(first.facts("training")["run"])
    assert [one.kind for one in recipe.stages] == ["sft", "dpo"] and "approved" not in recipe.data.train
