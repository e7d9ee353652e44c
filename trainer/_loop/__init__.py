"""Parts of `trainer.loop`: the order of the rows, the journal, the adapter's weights, signals, pace, where a stage stands, and what
the processes of a run tell each other."""
