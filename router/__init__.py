"""Which model and which way of reasoning, and the answer itself."""
