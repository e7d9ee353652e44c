"""One file for each kind of source, and how a record becomes a row. The door is data/datasets/sources.py."""
