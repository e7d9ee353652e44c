"""Parts of `trainer.loop`: the order of the rows, the journal, the adapter's weights, signals, and where a stage stands."""
