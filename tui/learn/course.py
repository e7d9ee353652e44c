"""A learn from beginning to end: dataset, training, gates, export, verify, replay, promotion.

A step that is done is noted on disk before the next one begins, and each is safe to repeat: a process killed at any moment costs
the step it was in, and of a training only what came after the last checkpoint. After every step the gates decide: where one failed
the learn ends, its evidence stays, and nothing is promoted. Not covered: what each step does (its own file).
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import domains, paths
from data.domains import Domain
from data.errors import InputError, NotFound
from tui.learn import dataset, enough, exporting, judging, mixing, serving, training
from tui.learn import state as states
from tui.learn.state import Held, State, Target

if TYPE_CHECKING:
    from data.config import Settings
    from data.store import Store
    from trainer.recipe import Recipe

RECIPE = "recipe.toml"


def _silent(*_: Any) -> None:
    return


@dataclass(frozen=True, slots=True)
class Watch:
    """Who wants to know what is being done. step: a step begins, with what it is about; event: of training; export: a step of an
    export; progress: what, how far, of how much; note: something worth a line."""

    step: Callable[[str, str], object] = _silent
    event: Callable[[Any], object] = _silent
    export: Callable[[Any], object] = _silent
    progress: Callable[[str, float, float], object] = _silent
    note: Callable[[str], object] = _silent


class Scarce(InputError):
    """There is not enough to learn from. missing: what, in words."""

    def __init__(self, domain: str, missing: tuple[str, ...]) -> None:
        super().__init__(f"not enough to learn {domain} from: {'; '.join(missing)}", "see: pointsman learn --dry-run")
        self.missing = missing


def begun(
    domain: str,
    store: "Store",
    *,
    recipe: str = "",
    to: Target | None = None,
    least: int = 0,
    anew: bool = False,
    resume: bool = False,
) -> tuple[State, bool]:
    """The learn to do, and whether there is anything to do: the one that broke off, a new one, or the last one where nothing was
    said since.

    anew: give up the one that broke off, and learn even where nothing is new. Raises NotFound where there is nothing to resume,
    InputError where another recipe is asked for than the one that broke off has, or where the domain has something on trial.
    """
    pack = domains.load(domain)
    recipe = _whole(recipe)
    mixing.chosen(pack, recipe)  # one that cannot be read is told before anything begins
    left = states.unfinished(domain)
    if left is not None and not anew:
        if recipe and recipe != left.recipe:
            raise InputError(
                f"the learn {left.id} broke off and has another recipe ({left.recipe or 'the usual one'})",
                "go on without --recipe, or give it up with --anew",
            )
        return (left.written(to=to) if to and to != left.to else left), True
    if resume:
        raise NotFound(f"no learn of {domain} broke off", f"begin one: pointsman learn {domain}")
    for one in states.found(domain) if left is not None else ():
        _give_up(one)
    last = next((one for one in reversed(states.found(domain)) if one.outcome in ("promoted", "failed")), None)
    if last and not anew and last.recipe == recipe and not dataset.fresh(last.folder / states.SEEN, dataset.said(store, pack)):
        return last, False
    wanted = to or "canary"
    serving.require_free(store, domain, wanted)
    return states.begin(domain, recipe=recipe, to=wanted, least=least), True


def run(state: State, store: "Store", settings: "Settings", watch: Watch = Watch()) -> State:
    """Do every step that is not done. The caller holds the domain's lock (`state.locked`).

    Raises Scarce where there is not enough to learn from, and leaves nothing then; PointsmanError for what a step cannot do: the
    same learn goes on from there later.
    """
    course = _Course(domains.load(state.domain), store, settings, watch)
    for name, step in course.steps():
        if state.outcome:
            break
        if state.facts(name) is None:
            facts, gates = step(state)
            state = state.after(name, facts, gates)
        if failed := [one for one in state.gates if one.passed is False]:
            state = state.ended("failed", _why(failed))
    return state if state.outcome else state.ended("promoted", "")


Stepped = tuple[Mapping[str, Any], tuple[Held, ...]]
"""What a step leaves for later ones, and its gates."""


class _Course:
    """The steps of one learn."""

    def __init__(self, domain: Domain, store: "Store", settings: "Settings", watch: Watch) -> None:
        self._domain, self._store, self._settings, self._watch = domain, store, settings, watch

    def steps(self) -> tuple[tuple[str, Callable[[State], Stepped]], ...]:
        """In their order."""
        return (
            ("dataset", self._dataset),
            ("training", self._training),
            ("gates", self._gates),
            ("export", self._export),
            ("verify", self._verify),
            ("replay", self._replay),
            ("promotion", self._promotion),
        )

    def _dataset(self, state: State) -> Stepped:
        self._watch.step("dataset", "reading what you said")
        source = dataset.said(self._store, self._domain)
        if not (state.dataset / dataset.MANIFEST).is_file():
            dataset.note_seen(state.folder / states.SEEN, source)
        gathered = dataset.build(source, state.dataset, self._watch.progress)
        if missing := enough.missing(gathered.volume, state.least):
            shutil.rmtree(state.folder)
            raise Scarce(state.domain, missing)
        return {**gathered.to_dict(), "sha256": _sha256(state.dataset)}, ()

    def _training(self, state: State) -> Stepped:
        from router.encoder import ENCODER
        from tui import opening

        recipe, notes = self._recipe(state)
        self._watch.step("training", f"{recipe.name}, on {recipe.base.model}")
        for one in notes:
            self._watch.note(one)
        opening.prepare(ENCODER)  # for the baselines
        place = training.trained(recipe, self._watch.event)
        return {"run": place.name, "base": recipe.base.model, "stages": [one.kind for one in recipe.stages]}, ()

    def _gates(self, state: State) -> Stepped:
        self._watch.step("gates", "")
        return {}, judging.held(self._run(state), self._domain)

    def _export(self, state: State) -> Stepped:
        self._watch.step("export", "")
        name, gates = exporting.exported(self._run(state), self._watch.export)
        return {"export": name}, gates

    def _verify(self, state: State) -> Stepped:
        self._watch.step("verify", "")
        return {}, exporting.verified(_export_of(state), self._watch.export)

    def _replay(self, state: State) -> Stepped:
        from data import exports
        from tui import opening

        name = _export_of(state)
        self._watch.step("replay", "your own past prompts")
        with opening.engines(self._settings) as engines:
            base = exports.read(exports.folder() / name).base.reference
            opening.prepare_named(engines, [serving.against(self._store, state.domain, base)])
            found = serving.replayed(state, name, self._store, engines, self._domain, self._watch.progress)
        return found.to_dict(), serving.gates_of(found)

    def _promotion(self, state: State) -> Stepped:
        self._watch.step("promotion", f"to {state.to}")
        found = serving.promoted(state, _export_of(state), self._store)
        version = found.version
        facts = {
            "version": version.id,
            "name": version.name,
            "model": version.model,
            "stage": version.stage,
            "replaced": found.replaced.name if found.replaced else None,
        }
        refused = found.decision.failed if found.decision and not found.passed else ()
        known = {one.name for one in state.gates}
        gates = tuple(
            Held(name=one.name, passed=False, reached=one.reached, limit=one.limit, note=one.note)
            for one in refused
            if one.name not in known
        )
        return facts, gates or (() if found.passed else (Held(name="registry", passed=False, note="its gates failed"),))

    def _recipe(self, state: State) -> "tuple[Recipe, tuple[str, ...]]":
        """The recipe, settled once: the champion may be another when a learn that broke off goes on."""
        from trainer import recipe as recipes
        from trainer._run.folder import as_toml

        file = state.folder / RECIPE
        if file.is_file():
            return recipes.load(str(file)), ()
        gathered = dataset.described(state.dataset, self._domain)
        made = mixing.mixed(mixing.run_name(state), state.recipe, self._domain, gathered, self._store)
        with paths.replacing(file) as out:
            out.write(as_toml(made.recipe).encode())
        return made.recipe, made.notes

    def _run(self, state: State) -> Path:
        from trainer import run_folder

        return run_folder.find(str((state.facts("training") or {})["run"]))


def _whole(recipe: str) -> str:
    """A recipe's file by its whole path, so that a learn goes on from anywhere; names stay names."""
    path = Path(recipe).expanduser()
    return str(path.absolute()) if recipe and path.is_file() else recipe


def _export_of(state: State) -> str:
    return str((state.facts("export") or {})["export"])


def _sha256(folder: Path) -> str:
    import hashlib

    return hashlib.sha256((folder / dataset.MANIFEST).read_bytes()).hexdigest()


def _give_up(one: State) -> None:
    """End a learn that broke off: its unfinished run and its dataset go, its state stays."""
    if not one.outcome:
        training.given_up(mixing.run_name(one))
        dataset.drop(one.dataset)
        one.ended("given up", "a new one was begun")


def _why(failed: list[Held]) -> str:
    """The failed gates in plain words."""
    return "; ".join(_words(one) for one in failed[:5]) + (f"; and {len(failed) - 5} more" if len(failed) > 5 else "")


def _words(one: Held) -> str:
    reached = f" {one.reached:.4g}" if one.reached is not None else ""
    limit = f" of {one.limit:.4g}" if one.limit is not None else ""
    return f"{one.name}{reached}{limit}{f' ({one.note})' if one.note else ''}"
