"""The parts of `trainer.estimate`: shapes of models, sizes of rows, memory, work, and the machine."""
