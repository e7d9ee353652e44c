"""The parts of trainer.base: where a base model comes from, its weights, its tokenizer, and the checks of both."""
