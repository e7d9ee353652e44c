"""How a model's answers begin and end: its chat template, the tokens that stop it, the text that ends a turn, and its padding.

A base whose template does not end an answer with a token that stops it would learn never to stop, so it is refused before hours
are spent. Not covered: rendering itself (`router.engines._llamacpp.template`).
"""

from collections.abc import Sequence
from typing import Any

from data.chat import Message
from data.errors import EngineRejected, ModelInvalid
from data.sanitise import one_line
from router.engines._llamacpp.prompt import spelled
from router.engines._llamacpp.template import ChatTemplate
from trainer._base.vocabulary import TokenizerVocab

PHI_2 = (
    "{% for message in messages %}{% if message.role == 'user' %}{{ 'Instruct: ' + message.content + '\\n' }}"
    "{% elif message.role == 'assistant' %}{{ 'Output:' + message.content + eos_token + '\\n' }}"
    "{% else %}{{ message.content + '\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Output:' }}{% endif %}"
)
"""For families that come without a template: the form of Phi-2's model card, each answer ended by the end token."""
ENDS = frozenset(
    "<|im_end|> <|eot_id|> <|eom_id|> <|end|> <end_of_turn> <|endoftext|> <|end_of_text|> </s> <eos> <EOT> [EOS]".split()
)
"""What llama.cpp stops at by its name alone, in these families (llama-vocab.cpp, special_eog_ids)."""
PADS = (
    "<pad>",
    "<|pad|>",
    "[PAD]",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_0|>",
    "<|fim_pad|>",
    "<unk>",
    "<unused0>",
)
ANSWER = "ANSWER"


def stop_ids(tokenizer: Any, configured: Sequence[int]) -> tuple[int, ...]:
    """Tokens at which an answer ends, sorted: those that the model's files name, and well-known ones that are special."""
    known = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special and token.content in ENDS}
    return tuple(sorted({*known, *configured} | ({tokenizer.eos_token_id} - {None})))


def set_padding(tokenizer: Any, stops: Sequence[int], size: int) -> None:
    """Give the tokenizer a padding token that stops nothing and that its template does not use; no embedding is ever added.

    size: of the model's vocabulary. Raises ModelInvalid where there is no such token.
    """
    special = [token.content for _, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special]
    taken = {tokenizer.bos_token_id, *stops}
    used = tokenizer.chat_template or ""
    free = [text for text in special if tokenizer.convert_tokens_to_ids(text) not in taken and text not in used]
    own = [text for text in (tokenizer.pad_token,) if text in free]
    named = [text for text in PADS if text in free]
    unnamed = [text for text in reversed(free) if text != tokenizer.unk_token]
    found = [*own, *named, *unnamed, *free]
    if not found and len(tokenizer) < size:  # Phi-2: rows of the embedding that no token uses
        found = ["<|pad|>"]
        tokenizer.add_special_tokens({"pad_token": found[0]})
    if not found:
        raise ModelInvalid("the tokenizer has no token that could pad: all of them mean something", "choose another base")
    tokenizer.pad_token = found[0]


def template(tokenizer: Any, vocab: TokenizerVocab, where: str) -> ChatTemplate:
    """The tokenizer's chat template, compiled; where: how messages call the base. Raises ModelInvalid where it does not compile."""
    return ChatTemplate(str(tokenizer.chat_template or ""), vocab.specials, vocab.text(vocab.bos), vocab.text(vocab.eos), where)


def end_of_turn(found: ChatTemplate, vocab: TokenizerVocab, where: str) -> str:
    """What the template puts after an answer, up to and with the token that stops the model. Raises ModelInvalid."""
    conversation = [Message("user", "QUESTION"), Message("assistant", ANSWER)]
    fix = "choose a base with a chat template (an instruct model), or correct chat_template in its folder"
    try:
        text, _ = spelled(conversation, vocab, found, think=False)
    except EngineRejected as error:
        raise ModelInvalid(f"the chat template of {where} refuses a question with its answer", fix) from error
    before, _, after = text.rpartition(ANSWER)
    if not before:
        raise ModelInvalid(f"the chat template of {where} leaves out the assistant's answer", fix)
    ends = [vocab.text(token) for token in vocab.ends]
    places = sorted((after.find(text), -len(text), text) for text in ends if text and text in after)
    if not places:
        said = f"the chat template of {where} does not end an answer with a token that stops the model"
        raise ModelInvalid(f"{said}: after it comes {one_line(after[:40], 60)!r}", fix)
    at, _, last = places[0]
    end = after[:at] + last
    if not vocab.is_end(vocab.tokenise(ANSWER + end)[-1]):
        raise ModelInvalid(f"the tokenizer of {where} does not read {one_line(last, 40)!r} as one token", fix)
    return end


def require_template(found: Any, where: str) -> None:
    """Raises ModelInvalid where the base has no chat template."""
    if not isinstance(found, str) or not found.strip():
        said = f"{where} has no chat template: it is no instruct model, or its tokenizer_config.json is not complete"
        raise ModelInvalid(said, "choose the instruct model of the family, or put a chat_template.jinja beside its config.json")
