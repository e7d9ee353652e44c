"""The parts of `router.rules`: facts of a text, the condition language, bounded regexes, the TOML file, contradictions."""
