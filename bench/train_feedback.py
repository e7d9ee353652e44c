"""Does a little feedback of one user move the embedded model towards what that user likes, without spoiling the rest?

    python bench/train_feedback.py [--thumbs 60] [--corrections 40] [--seeds 1] [--answers 16] [--recipe FILE]

One user likes answers of three short bullet points and nothing around them; what they get is long-winded. Of topics and question
forms written for this (feedback_topics.txt), 60 answers are thumbed up or down and 40 are corrected, as the log yields them. The
recipe below learns from that: the liked and the corrected answers word for word (SFT), the thumbs (KTO), the corrections as pairs
(DPO). Judged on 120 pairs of held-out topics in held-out question forms, whose long-winded answers use held-out phrases: "likelier"
is the share of pairs whose liked answer has the higher log-probability a token, "margin" the share in which it gained more over the
untuned model than the disliked one (half, before training); the win rate is the smaller of both. Beside it the general set (loss,
answers) with its gates, and what the model says when it is asked, greedily: the share of answers that are bullet points only, and
their words.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from data.chat import Message
from data.datasets.rows import Origin, Row

TOPICS = Path(__file__).parent / "feedback_topics.txt"
LIKED_SHARE = 0.45
"""Of the thumbs; the untuned model is long-winded, so fewer answers than half are liked."""
ANSWER_TOKENS = 120
GOAL = 0.7
COLUMNS = [
    "seed", "pairs", "win before", "win", "low", "high", "margin", "likelier before", "likelier", "general loss before",
    "general loss", "right before", "right", "bullets before", "bullets", "words before", "words", "sft s", "kto s", "dpo s",
    "passed",
]  # fmt: skip

QUESTIONS = (
    "How do I {}?",
    "What is the best way to {}?",
    "I want to {}. What should I do?",
    "Can you tell me how to {}?",
    "Any tips? I need to {}.",
)
HELD_OUT_QUESTIONS = (
    "Please explain to me how to {}.",
    "My sister asked me how to {}, what shall I tell her?",
    "I have never had to {} before. Where do I start?",
)
OPENINGS = (
    "Great question! I am happy to help you with that.",
    "Certainly! There are many things to consider here.",
    "Of course! A lot of people wonder about this.",
    "Thank you for asking. Let me give you some background.",
    "That is a very good thing to think about.",
    "Sure, I would be delighted to assist you today.",
)
MIDDLES = (
    "The first thing to keep in mind is this: {}.",
    "Another aspect which is worth mentioning: {}.",
    "In addition, experts usually recommend the following: {}.",
    "It is also important to note: {}, otherwise you might be disappointed.",
    "Last but not least, remember this: {}.",
)
CLOSINGS = (
    "I hope that this helps! Please let me know if you have any other questions.",
    "As you can see, it is not difficult at all. Good luck!",
    "Remember that everyone is different, so feel free to adapt these suggestions.",
    "If you would like to know more, just ask me at any time.",
    "In conclusion, with some patience you will surely succeed.",
)
HELD_OUT_OPENINGS = (
    "What an interesting topic! Allow me to walk you through it.",
    "Absolutely, I can tell you everything about this.",
    "This comes up again and again, so let us look at it together.",
)
HELD_OUT_MIDDLES = (
    "To begin with, it would be wise to consider this: {}.",
    "Once that is taken care of, the next step would be: {}.",
    "What is more, you could think about this as well: {}.",
)
HELD_OUT_CLOSINGS = (
    "Feel free to come back to me whenever something is unclear.",
    "All in all, these recommendations should get you going in no time.",
    "With that in mind, I wish you all the best for your endeavour!",
)

Topic = tuple[str, tuple[str, ...]]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--thumbs", type=int, default=60)
    arguments.add_argument("--corrections", type=int, default=40)
    arguments.add_argument("--seeds", type=int, default=1, help="so many runs, each with its own feedback")
    arguments.add_argument("--answers", type=int, default=16, help="held-out questions that are answered before and after")
    arguments.add_argument("--recipe", type=Path, default=None, help="a recipe instead of the built-in one")
    options = arguments.parse_args()
    rows = []
    for seed in range(options.seeds):
        rows.append(run(seed, options))
        print(harness.table(rows, COLUMNS), flush=True)
    harness.write(
        "train_feedback", {"goal": GOAL, "rows": rows, "training": versions(), "passed": all(row["passed"] for row in rows)}
    )


def run(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One user's feedback learned from, and what it changed."""
    from trainer import adapter, base, device, general, stages
    from trainer.engine import TorchEngine
    from trainer.figures import wilson
    from trainer.stages import _preference

    told, held_out = feedback(seed, options.thumbs, options.corrections)
    recipe = recipe_of(seed, options.recipe)
    policy = device.policy(recipe)
    found = base.load(recipe.base, policy)
    model = adapter.attach(found, recipe.lora, seed=seed)
    engine = TorchEngine(found, model)
    material = material_of(told)
    pairs = _preference.pairs(recipe, recipe.stages[-1], None, found, held_out)
    questions = [row.text for row in held_out[:: max(1, len(held_out) // options.answers)]][: options.answers]
    reference = _preference.pair_log_probabilities(model, pairs, _preference.pad_of(found))  # a fresh adapter changes nothing
    before = _preference.wins(model, found, pairs, reference)
    said_before = answers(found, model, questions)
    seconds = {}
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as folder:
        for index, stage in enumerate(recipe.stages, start=1):
            place = Path(folder) / f"{index}-{stage.kind}"
            place.mkdir()
            started = time.perf_counter()
            done = stages.run(stages.Work(recipe, stage, index, None, found, model, policy, material, place))
            seconds[stage.kind] = round(time.perf_counter() - started, 1)
            print(f"{stage.kind}: {done.steps} steps, loss {done.loss:.4f}, {seconds[stage.kind]} s", file=sys.stderr)
    after = _preference.wins(model, found, pairs, reference)
    said = answers(found, model, questions)
    ability = general.measure(engine)
    bounds = wilson(round(after.rate * after.pairs), after.pairs)
    kept = (ability.loss_rise or 0) <= recipe.gates.general_loss and (ability.lost_share or 0) <= recipe.gates.general_answers
    return {
        "seed": seed,
        "thumbs": options.thumbs,
        "corrections": options.corrections,
        "pairs": after.pairs,
        "win before": before.rate,
        "win": after.rate,
        "low": bounds.low,
        "high": bounds.high,
        "margin": after.margin,
        "likelier before": before.likelier,
        "likelier": after.likelier,
        "summed before": before.summed,
        "summed": after.summed,
        "general loss before": ability.base.loss,
        "general loss": ability.mine.loss,
        "general loss gate": recipe.gates.general_loss,
        "right before": ability.base.rate,
        "right": ability.mine.rate,
        "lost share": ability.lost_share,
        **style("before", said_before),
        **style("", said),
        **{f"{kind} s": spent for kind, spent in seconds.items()},
        "passed": after.rate >= GOAL and kept,
        "recipe": recipe.model_dump(exclude_defaults=True),
        "examples": [
            {"question": question, "before": first, "after": second}
            for question, first, second in zip(questions[:4], said_before, said, strict=False)
        ],
    }


def recipe_of(seed: int, file: Path | None) -> Any:
    """The recipe of the run: from the file, else the built-in one."""
    from trainer import recipe
    from trainer.recipe import DataTable, Recipe, StageTable

    if file is not None:
        return recipe.load(str(file)).model_copy(update={"seed": seed})
    return Recipe(
        name="feedback",
        seed=seed,
        data=DataTable(train=("log",)),
        stages=(
            StageTable(kind="sft", epochs=4, batch=8, learning_rate=4e-4, rehearse=4.0),
            StageTable(kind="kto", epochs=1, batch=8, learning_rate=2e-5),
            StageTable(kind="dpo", epochs=3, batch=8, learning_rate=1e-4),
        ),
    )


def feedback(seed: int, thumbs: int, corrections: int) -> tuple[list[Row], list[Row]]:
    """(what the user said, held-out preferences): rows as `data.datasets.sources.from_log` yields them."""
    topics, others = read_topics()
    chance = random.Random(seed)
    asked = [(topic, question) for topic in topics for question in QUESTIONS]
    chance.shuffle(asked)
    told = []
    for number, (topic, question) in enumerate(asked[: thumbs + corrections], start=1):
        wordy = long_winded(topic, chance, OPENINGS, MIDDLES, CLOSINGS)
        shared: dict[str, Any] = {
            "text": question.format(topic[0]),
            "origin": Origin("log", number),
            "group": f"conversation-{number}",
            "at": 1_790_000_000.0 + 3_600 * number,
        }
        if number > thumbs:
            told.append(Row("correction", **shared, completion=bullets(topic), rejected=wordy))
        elif chance.random() < LIKED_SHARE:
            told.append(Row("thumb", **shared, completion=bullets(topic), thumb=True))
        else:
            told.append(Row("thumb", **shared, completion=wordy, thumb=False))
    held_out = [
        Row(
            "preference",
            question.format(topic[0]),
            Origin("held out", number),
            completion=bullets(topic),
            rejected=long_winded(topic, chance, HELD_OUT_OPENINGS, HELD_OUT_MIDDLES, HELD_OUT_CLOSINGS),
        )
        for number, (topic, question) in enumerate(((topic, question) for topic in others for question in HELD_OUT_QUESTIONS), 1)
    ]
    return told, held_out


def bullets(topic: Topic) -> str:
    """The answer that this user likes."""
    return "\n".join(f"- {point[0].upper()}{point[1:]}" for point in topic[1])


def long_winded(
    topic: Topic, chance: random.Random, openings: Sequence[str], middles: Sequence[str], closings: Sequence[str]
) -> str:
    """The same points with many words around them."""
    said = [middle.format(point) for middle, point in zip(chance.sample(middles, len(topic[1])), topic[1], strict=True)]
    return " ".join([chance.choice(openings), *said, chance.choice(closings)])


def read_topics() -> tuple[list[Topic], list[Topic]]:
    """(topics to learn from, held-out ones)."""
    first, _, second = TOPICS.read_text(encoding="utf-8").partition("\nheld out\n")
    return list(_topics(first)), list(_topics(second))


def _topics(text: str) -> Iterator[Topic]:
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, *points = (part.strip() for part in line.split("|"))
            yield name, tuple(points)


def material_of(told: list[Row]) -> Any:
    """The rows as a run's material; a tenth of each kind is held out for the evaluations while training."""
    from trainer.material import Material, digest

    validation = told[::10]
    train = [row for row in told if row not in validation]
    return Material(tuple(train), tuple(validation), (), digest(train), digest(validation))


def answers(found: Any, model: Any, questions: list[str]) -> list[str]:
    """What the model says, greedily, ANSWER_TOKENS at most."""
    import torch

    said = []
    for question in questions:
        ids = torch.tensor([found.prompt_ids([Message("user", question)])])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=ANSWER_TOKENS,
                do_sample=False,
                eos_token_id=list(found.stop_ids),
            )
        said.append(found.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return said


def style(when: str, said: list[str]) -> dict[str, float]:
    """The share of answers that are bullet points and nothing else, and the mean of their words."""
    name = f" {when}" if when else ""
    only = [all(line.startswith(("- ", "* ")) for line in one.splitlines() if line.strip()) and bool(one.strip()) for one in said]
    return {
        f"bullets{name}": sum(only) / max(1, len(said)),
        f"words{name}": sum(len(one.split()) for one in said) / max(1, len(said)),
    }


def versions() -> dict[str, str]:
    """Of what trains."""
    from importlib import metadata

    return {name: metadata.version(name) for name in ("torch", "transformers", "peft", "trl", "accelerate")}


if __name__ == "__main__":
    main()
