"""One file per revision of the schema, `r<number>_<what>.py`, each a complete step of its own: they import no tables."""
