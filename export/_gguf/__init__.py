"""The parts of export.gguf: the checkpoint's files, its metadata, its vocabulary, and its tensors."""
