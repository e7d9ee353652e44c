"""`pointsman learn`: from the log to a promoted model, step by step, each step noted when it is done so that a kill costs one step.

    course.py      the steps in their order, and what a learn comes to
    state.py       <data>/learn/<id>/state.json, the lock of a domain, which learn is to be gone on with
    source.py      what the user said, as rows that the domain can learn from
    dataset.py     those rows as a dataset folder: redacted, without duplicates, split by conversation and time
    enough.py      whether that is enough, and what is missing
    mixing.py      the recipe: whose base, which stages, how much the user's rows count beside the pack's
    training.py    one run, gone on with after a kill
    judging.py     gates beside the run's own: the pack's rows and the user's, each by themselves
    exporting.py   the export, checked again
    serving.py     replay against the champion, then the registry
    surveying.py   what would be learnt (--dry-run)
    idle.py        whether this is a moment for it (--when-idle)
    remains.py     what a killed process left

Only `tui` may import data, trainer, export and router at once, which is why this is here. Not covered: showing it (`commands/`).
"""
