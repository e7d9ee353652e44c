"""The parts of `trainer.encode`: which messages and answers a row makes, and their tokens."""
