"""The embedded model's real tokenizer and template as a base without weights, for tests of what is made of rows."""

from pathlib import Path
from types import SimpleNamespace

from trainer._base import gguf_tokenizer, turns
from trainer._base.gguf_file import GgufFile
from trainer._base.vocabulary import TokenizerVocab
from trainer.base import Base, Identity


def base(file: Path, context: int = 8192) -> Base:
    """A GGUF file's tokenizer as a base."""
    found = GgufFile(file)
    tokenizer = gguf_tokenizer.tokenizer(found)
    stops = turns.stop_ids(tokenizer, [found.metadata["tokenizer.ggml.eos_token_id"]])
    vocab = TokenizerVocab(tokenizer, stops, len(tokenizer))
    end = turns.end_of_turn(turns.template(tokenizer, vocab, file.name), vocab, file.name)
    model = SimpleNamespace(config=SimpleNamespace(vocab_size=len(tokenizer)))
    identity = Identity(file.name, "", "llama", 0, "", "", "", "", 0)
    return Base(model, tokenizer, identity, stops, end, context)
