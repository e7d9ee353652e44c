"""Two models side by side on one question, part of `pointsman experiment`: two blind answers, a pick, and what is proven."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from data.sanitise import sanitise
from tui import output

if TYPE_CHECKING:
    from data.store.versions import Status
    from router.pairing import Pair, Picked, Side

_PICKS: "dict[str, Side]" = {"a": "left", "b": "right", "t": "tie"}
_TRIES = 3


@click.command()
@click.argument("domain")
@click.argument("question", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value; the answers go to stderr.")
def compare(domain: str, question: tuple[str, ...], as_json: bool) -> None:
    """Ask both models of the paired experiment in DOMAIN the same QUESTION, and say which answer is better.

    Which model wrote which is told after you have said: a, b, or t for a tie. It may be done as often as you like.
    """
    from router.pairing import pair
    from router.session import Session
    from tui import opening

    settings = opening.settings()
    with opening.engines(settings) as engines, opening.store(settings.store.url) as store:
        found = pair(Session(settings, store, engines), " ".join(question), domain)
        opening.prepare_named(engines, found.sides)
        answers = _answers(found)
        for name, text in answers.items():
            _show(f"{name.upper()}:\n{text.strip() or '(nothing)'}\n", as_json)
        picked = found.pick(_asked())
    if as_json:
        output.as_json(_plain(found, answers, picked))
        return
    output.line(f"A was {picked.left}, B was {picked.right}")
    for line in evidence(picked.status) if picked.status else ():
        output.line(line)


def evidence(found: "Status") -> list[str]:
    """What an experiment has proven so far, in words."""
    one, second = found.experiment, found.experiment.arms[1][0]
    pairs = f"blind pairs: {found.pairs.wins} won, {found.pairs.losses} lost, {found.pairs.ties} ties"
    said = [pairs] if one.kind == "paired" else []
    said.append(f"{second} is better: e-value {found.better:.3g} of {one.threshold:g}; is worse: {found.worse:.3g}")
    if found.verdict == "nothing is proven yet" and one.state == "running":
        more = "no end is in sight" if found.more is None else f"about {found.more} more answers needed, if it goes on so"
        return [*said, f"{found.verdict}; {more}"]
    return [*said, found.verdict]


def _answers(found: "Pair") -> dict[str, str]:
    """Both whole before either is shown, so that the slower one does not give itself away."""
    status = output.Status()
    texts = {}
    try:
        for name, stream in (("a", found.left), ("b", found.right)):
            status.show(f"answer {name.upper()} is on its way")
            texts[name] = "".join(stream)
    finally:
        status.clear()
    return texts


def _show(text: str, as_json: bool) -> None:
    if not as_json:
        output.line(text)
        return
    sys.stderr.write(f"{sanitise(text)}\n")
    sys.stderr.flush()


def _asked() -> "Side":
    """Which answer is better. Raises InputError where nobody says."""
    from data.errors import InputError

    for _ in range(_TRIES):
        sys.stderr.write("which is better, A or B? [a/b/t for a tie] ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if (said := line.strip().casefold()) in _PICKS:
            return _PICKS[said]
        if not line:
            sys.stderr.write("\n")
            break
    raise InputError("nobody said which answer is better, so nothing was kept", "answer a, b or t")


def _plain(found: "Pair", answers: dict[str, str], picked: "Picked") -> dict[str, Any]:
    experiment, status = found.experiment, picked.status
    assert experiment is not None and status is not None  # noqa: S101  `pair` gave it
    return {
        "experiment": experiment.id,
        "domain": experiment.domain,
        "conversation": found.conversation,
        "answers": answers,
        "picked": {"left": "a", "right": "b", "tie": "tie"}[picked.side],
        "models": {"a": picked.left, "b": picked.right},
        "pairs": asdict(status.pairs),
        "better": status.better,
        "worse": status.worse,
        "threshold": experiment.threshold,
        "more": status.more,
        "verdict": status.verdict,
    }
