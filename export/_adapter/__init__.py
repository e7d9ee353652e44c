"""Parts of `export.adapter` and `export.join`: what a PEFT adapter says and holds, and GGUF files read and rewritten."""
