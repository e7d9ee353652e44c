"""The parts of `router.mode_head`: the lists and patterns of its features."""
