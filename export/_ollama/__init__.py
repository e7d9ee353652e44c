"""Parts of `export.ollama`: the model's name, its blobs, its creation, and what it answers beside what the file answers here."""
