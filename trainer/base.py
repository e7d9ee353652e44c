"""The base model of a run: found, checked before hours are spent, and loaded as the device policy says.

    look(table)            what it is, by its files' heads
    load(table, policy)    the model with its tokenizer, frozen, and how its turns begin and end
    place(table)           where its files lie

A base is a name of the catalog, a GGUF file (where that is exact), a folder with a checkpoint, or a hub id. Prompts are made by the
rules of the llama.cpp engine (`router.engines._llamacpp.prompt`), so that a model is trained on the ids that it will be served.
A base quantised in memory (nf4, int8) is never merged with an adapter there: rounding to 4 bits again erases small adapters.
Not covered: the adapter, and training.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from data.chat import Message
from data.datasets.sources import Progress, silent
from router.engines._llamacpp.prompt import rendered, spelled
from router.engines._llamacpp.template import ChatTemplate
from trainer._base import turns
from trainer._base.quantised import settle
from trainer._base.source import resolve
from trainer._base.vocabulary import TokenizerVocab
from trainer.recipe import BaseTable

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from trainer.device import Policy


@dataclass(frozen=True, slots=True)
class Identity:
    """Which base it is, to the bit.

    source: as the recipe names it, a folder or file as its absolute path; revision: commit of a hub id, else ""; family:
    transformers' model_type; parameters: numbers of the weights; sha256: of the weight file, of several their names and digests;
    licence: as the source says it, else "".
    """

    source: str
    revision: str
    family: str
    parameters: int
    sha256: str
    tokenizer_sha256: str
    template_sha256: str
    licence: str
    size_bytes: int


@dataclass(frozen=True)
class Base:
    """A loaded base: every parameter frozen, in eval mode, with its KV cache on.

    stop_ids: tokens that end an answer; end: the text that the template puts after an answer, up to and with the token that ends
    it (what training completions end with); context: tokens it was trained for; notes: what the user should know.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    identity: Identity
    stop_ids: tuple[int, ...]
    end: str
    context: int
    notes: tuple[str, ...] = ()

    def prompt(self, messages: Sequence[Message], think: bool | None = False) -> str:
        """The conversation in the model's own template, up to where the answer begins.

        think: as engines take it; what answers under a contract is served with False. A text of a message that looks like a
        special token has a mark inside, at which `ids` cuts it. Raises EngineRejected where the template refuses the conversation.
        """
        return rendered(messages, self.vocab, self.template, think)

    def ids(self, text: str) -> list[int]:
        """The tokens of a text in which special tokens are meant, such as a rendered prompt. No BOS or EOS is added."""
        return self.vocab.tokenise(text)

    def text_ids(self, text: str) -> list[int]:
        """The tokens of plain text from outside, in which nothing becomes a control token."""
        return self.vocab.tokenise_text(text)

    def prompt_ids(self, messages: Sequence[Message], think: bool | None = False) -> list[int]:
        """The tokens of the rendered conversation as the llama.cpp engine makes them, with one BOS where the family wants one.

        Special-token text inside a message stays text. Raises EngineRejected as `prompt`.
        """
        return spelled(messages, self.vocab, self.template, think)[1]

    @cached_property
    def vocab(self) -> TokenizerVocab:
        """What the tokens spell, and which of them control."""
        return TokenizerVocab(self.tokenizer, self.stop_ids, int(self.model.config.vocab_size))

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat template, compiled in the sandbox that serving uses."""
        return turns.template(self.tokenizer, self.vocab, self.identity.source)


def look(table: BaseTable) -> Identity:
    """What a base is, without loading weights. Raises as `load`."""
    return resolve(table, silent).identity()  # type: ignore[no-any-return]


def place(table: BaseTable, progress: Progress = silent) -> "Path":
    """Where a base lies on this machine, fetched where it must be: a GGUF file, or the folder of a checkpoint. Raises as `load`."""
    source = resolve(table, progress)
    source.fetch()
    return source.place


def load(table: BaseTable, policy: "Policy", progress: Progress = silent) -> Base:
    """The base in the policy's number format on its device; progress: told bytes done and in all of each file that is fetched.

    Raises ModelMissing where it is absent, naming near ones; ModelInvalid for pickles, custom code, families that are not
    supported, damaged files, a GGUF file that is not exact; Offline; InputError for a gated repository, telling how to get
    access, and for a disk that is too small.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of a kernel of the hub, which is never fetched here
    source = resolve(table, progress)
    source.fetch()
    identity = source.identity()
    model, tokenizer, stops, notes = source.loaded(table.quantisation, policy)
    return _ready(model, tokenizer, identity, stops, notes)


def _ready(model: Any, tokenizer: Any, identity: Identity, configured: Sequence[int], notes: Sequence[str]) -> Base:
    stops = turns.stop_ids(tokenizer, configured)
    vocab = TokenizerVocab(tokenizer, stops, int(model.config.vocab_size))
    turns.require_template(tokenizer.chat_template, identity.source)
    end = turns.end_of_turn(turns.template(tokenizer, vocab, identity.source), vocab, identity.source)
    turns.set_padding(tokenizer, stops, int(model.config.vocab_size))
    settle(model)
    model.requires_grad_(False)
    model.train(False)
    model.config.use_cache = True
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    context, more = _context(model.config)
    return Base(model, tokenizer, identity, stops, end, context, (*notes, *more))


def _context(config: Any) -> tuple[int, tuple[str, ...]]:
    """The tokens within which training and every runtime agree, and what to know of them."""
    longest = int(config.max_position_embeddings)
    rope = getattr(config, "rope_parameters", None) or {}
    first = rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
    if rope.get("rope_type") != "longrope" or not isinstance(first, int) or first >= longest:
        return longest, ()
    return first, (f"context of {first} tokens, not {longest}: beyond it longrope changes what short texts mean in llama.cpp",)
