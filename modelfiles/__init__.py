"""One Modelfile template per model family."""
