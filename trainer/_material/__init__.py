"""The parts of `trainer.material`: reading sources, judging rows, dividing them."""
