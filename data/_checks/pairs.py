"""bias.jsonl: every line a frame or a pair of the pack's own, with a label that it has."""

from data._checks.examples import rows
from data._checks.pack import Pack, meant
from data.bias import OWN, Template
from data.domains import Description
from data.sanitise import one_line


def pairs(pack: Pack, description: Description) -> None:
    """Note what is wrong with the pack's paired prompts; a pack need not have any."""
    labels = [label.name for label in description.labels]
    for line, one in rows(pack, OWN, Template):
        if one.label and one.label not in labels:
            pack.fault(OWN, line, f"the label {one_line(one.label, 60)!r} is not one of the pack's{meant(one.label, labels)}")
        if one.text and labels and one.completion:
            pack.fault(OWN, line, "a pair of a pack with labels has no completion")
