"""Models made ready to run: requantised, converted, verified."""
