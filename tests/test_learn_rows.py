"""What was said becomes rows that a domain can learn from: labels however they are written, one lesson an answer."""

import hashlib
from dataclasses import replace

import pytest
from packs import LABEL_SCHEMA, pack

from data.chat import Message
from data.datasets.rows import Origin, Refused, Row
from tui.learn import dataset, enough
from tui.learn.dataset import Gathered
from tui.learn.enough import Volume
from tui.learn.layout import Layout
from tui.learn.source import Said, key

WANTED = '{"label": "FRAUD"}'


class Source:
    """Rows that are there already."""

    name, licence = "log", ""

    def __init__(self, *rows: Row | Refused) -> None:
        self._rows = rows

    def rows(self, progress=None):
        yield from self._rows

    def digest(self) -> str:
        return ""


def row(text: str = "my card is gone", shape: str = "correction", **more) -> Row:
    more = {
        "completion": "FRAUD",
        "rejected": '{"label": "INFO"}',
        "group": hashlib.sha256(text.encode()).hexdigest(),
        "at": 1.0,
        **more,
    }
    return Row(shape, text, Origin("log", 1), **more)


def read(*rows: Row | Refused, domain="desk") -> tuple[Row | Refused, ...]:
    return Said(Source(*rows), pack() if domain else None).read


@pytest.mark.parametrize(
    "written", ["FRAUD", "fraud", " Fraud. ", '"FRAUD"', "**FRAUD**", WANTED, f"```json\n{WANTED}\n```", '{ "label" : "FRAUD" }']
)
def test_a_label_is_read_however_it_was_written(written):
    (found,) = read(row(completion=written))
    assert (found.label, found.completion, found.rejected) == ("FRAUD", WANTED, '{"label": "INFO"}')


@pytest.mark.parametrize("written", ["This is fraud, I think", "FRUAD", '{"label": "THEFT"}', '{"kind": "FRAUD"}', "[]", "{" * 50])
def test_what_names_no_label_is_refused_with_the_reason(written):
    (found,) = read(row(completion=written))
    assert isinstance(found, Refused) and "cannot be read out of its answer" in found.reason


def test_what_the_model_does_not_write_is_left_out_of_an_answer():
    (found,) = read(row(completion='{"more": 1, "label": "FRAUD"}'))
    assert (found.completion, found.output) == (WANTED, {"label": "FRAUD"})


def test_an_answer_that_breaks_the_schema_is_refused():
    schema = {**LABEL_SCHEMA, "properties": {**LABEL_SCHEMA["properties"], "urgent": {"type": "boolean"}}}
    made = Said(Source(row(completion='{"label": "FRAUD", "urgent": "very"}')), pack(schema=schema))
    gathered = dataset.build(made, _folder())
    assert gathered.volume.rows == 0 and "not valid" in next(iter(gathered.left_out))


def _folder():
    from data import paths

    return paths.ensure(paths.data_dir() / "learn") / "dataset"


def test_a_correction_to_what_was_said_already_is_no_pair():
    (found,) = read(row(completion="fraud", rejected=WANTED))
    assert found.rejected == "" and found.label == "FRAUD"


def test_the_conversations_system_prompt_gives_way_to_the_domains():
    before = (Message("system", "You are a pirate."), Message("user", "hello"), Message("assistant", "hi"))
    (found,) = read(row(before=before))
    assert [one.role for one in found.before] == ["user", "assistant"]


def test_the_thumb_of_a_corrected_answer_is_left_out():
    corrected = row()
    thumb = row(shape="thumb", completion=corrected.rejected, rejected="", thumb=False)
    other = row("another one", shape="thumb", completion=WANTED, rejected="", thumb=True)
    found = read(corrected, thumb, other)
    assert [isinstance(one, Refused) for one in found] == [False, True, False]
    assert "says more than its thumb" in found[1].reason


def test_a_thumb_down_needs_no_label_and_is_kept_as_it_was():
    (found,) = read(row(shape="thumb", completion="I do not know", rejected="", thumb=False))
    assert (found.thumb, found.completion, found.label) == (False, "I do not know", "")


def test_one_conversation_gives_a_fifth_of_the_rows_at_most_and_the_newest_of_it():
    talk = [row(f"talk {at}", group="one", at=float(at)) for at in range(30)]
    found = read(*talk, *(row(f"single {at}") for at in range(20)))
    kept = [one.text for one in found if isinstance(one, Row) and one.group == "one"]
    assert kept == [f"talk {at}" for at in range(20, 30)]
    assert sum(isinstance(one, Refused) for one in found) == 20


def test_refusals_of_the_log_stay_what_they_are():
    refusal = Refused(Origin("log", 4), "log", "not complete (interrupted)", "…")
    assert read(refusal, row()) == (refusal, read(row())[0])


def test_without_a_domain_rows_stay_as_they_were():
    given = row(completion="anything at all")
    assert read(given, domain="") == (given,)


def test_free_answers_are_kept_word_for_word():
    found = Layout(None)
    assert not found.closed and not found.meaning("FRAUD")


def test_a_row_is_known_again_by_what_was_said_about_it():
    assert key(row()) == key(replace(row(), origin=Origin("log", 9)))
    assert key(row()) != key(row(completion="INFO"))


def test_what_is_new_is_counted_against_what_was_seen(tmp_path):
    first = Said(Source(row("one"), row("two")), pack())
    dataset.note_seen(tmp_path / "seen.txt", first)
    again = Said(Source(row("one"), row("two", completion="INFO", rejected=WANTED), row("three")), pack())
    assert dataset.fresh(tmp_path / "seen.txt", again) == 2
    assert dataset.fresh(tmp_path / "none.txt", again) == 3


def test_names_and_numbers_are_redacted_before_anything_is_trained(tmp_path):
    pack()
    rows = [row(f"{word} somebody used my card, write to anna.{word}@example.org") for word in "ash birch cedar elm fir".split()]
    gathered = dataset.build(Said(Source(*rows), pack()), tmp_path / "dataset")
    text = "".join((tmp_path / "dataset" / f"{split}.jsonl").read_text() for split in dataset.SPLITS)
    assert "example.org" not in text and sum(gathered.manifest.redactions.values()) >= 5
    assert "example.org" not in str(gathered.first)


def test_an_empty_log_makes_no_dataset_and_says_why(tmp_path):
    gathered = dataset.build(Said(Source(row(completion="?")), pack()), tmp_path / "dataset")
    assert gathered.manifest is None and gathered.volume.rows == 0
    assert list(gathered.left_out.values()) == [1] and not (tmp_path / "dataset").exists()


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (
            Volume(lessons=49, good=49, pack=500, conversations=40, held_out=10),
            ["1 more answers that you liked or corrected (49 of 50)"],
        ),
        (Volume(lessons=50, pack=500, conversations=40, held_out=10), []),
        (Volume(lessons=60, pack=0, conversations=40, held_out=12), ["40 more answers"]),
        (Volume(lessons=100, pack=0, conversations=3, held_out=20), ["7 more conversations"]),
        (Volume(lessons=100, pack=0, conversations=30, held_out=4), ["6 more rows that can be held out"]),
        (Volume(lessons=20, good=20, bad=130, pack=0, conversations=90, held_out=30), []),
        (Volume(lessons=19, good=19, bad=200, pack=0, conversations=90, held_out=30), ["or 1 more thumbs"]),
        (Volume(), ["100 more answers", "10 more conversations"]),
    ],
)
def test_what_is_missing_is_said_in_numbers(volume, words):
    found = enough.missing(volume)
    assert len(found) == len(words)
    assert all(word in said for word, said in zip(words, found, strict=True))


def test_another_number_of_rows_can_be_enough():
    assert enough.missing(Volume(lessons=8, conversations=8, held_out=1), 8) == ()
    assert enough.missing(Volume(lessons=7, conversations=8, held_out=1), 8)


def test_a_survey_tells_counts_without_texts():
    told = Gathered(_folder(), None, Volume(rows=3), {"corrections": 3}, {"why": 1}, (row("private"),)).to_dict()
    assert "private" not in str(told) and told["kinds"] == {"corrections": 3}
