"""The parts of `data.bundles`: the archive."""
