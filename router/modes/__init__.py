"""The ways of reasoning, one file each."""
