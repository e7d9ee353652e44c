"""Sources to clean, split, formatted training data with a manifest."""
