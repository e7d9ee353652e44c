"""The parts of `redact`: what is personal (`people`), what is secret (`secrets`), and what stands around a number (`around`)."""
