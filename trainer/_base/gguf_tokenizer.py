"""From a GGUF file's vocabulary to a fast tokenizer, built as the one was from which the file was made.

Byte-level BPE with the pre-tokenizers smollm, gpt-2, llama-bpe and qwen2, and SentencePiece's BPE with its scores. Whether the
result equals llama.cpp's is checked on difficult texts when a base is loaded (`parity`), so that a file that lies is found out.
Source of the patterns: llama.cpp's src/llama-vocab.cpp. Not covered: WordPiece and Unigram vocabularies.
"""

from typing import Any

from data.errors import ModelInvalid
from data.sanitise import one_line
from trainer._base.gguf_file import FIX, GgufFile
from trainer._base.gguf_model import CHECKPOINT
from trainer._base.turns import ENDS

NORMAL, UNKNOWN, CONTROL, USER = 1, 2, 3, 4  # tokenizer.ggml.token_type, docs/gguf.md
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    "gpt-2": "",
    "smollm": "",
    "llama-bpe": rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}",
    "qwen2": rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}",
}
"""How text is cut before merging, by the name that llama.cpp gives it; "": GPT-2's pattern, which tokenizers has itself."""


def tokenizer(file: GgufFile) -> Any:
    """The PreTrainedTokenizerFast with the file's chat template. Raises ModelInvalid for what is unknown or contradicts itself."""
    from transformers import PreTrainedTokenizerFast

    tokens = file.texts("tokenizer.ggml.tokens")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ModelInvalid(f"{file.path} has a token twice in its vocabulary", FIX)
    if len(tokens) > file.embeddings:
        raise ModelInvalid(f"{file.path} has more tokens than embeddings", FIX)
    kind = file.metadata.get("tokenizer.ggml.model")
    if kind == "gpt2":
        built = _byte_level(file, vocabulary)
    elif kind == "llama":
        built = _sentence_piece(file, tokens, vocabulary)
    else:
        raise ModelInvalid(f"{file.path} has a tokenizer of the kind {one_line(str(kind), 40)!r}, which is not known", CHECKPOINT)
    _add_specials(file, built, tokens)
    named = {f"{name}_token": _named(file, tokens, name) for name in ("bos", "eos", "unk")}
    template = file.metadata.get("tokenizer.chat_template")
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=built,
        clean_up_tokenization_spaces=False,
        chat_template=template if isinstance(template, str) else None,
        model_max_length=file.size("context_length"),
        **{name: token for name, token in named.items() if token is not None},
    )


def _byte_level(file: GgufFile, vocabulary: dict[str, int]) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    pre = file.metadata.get("tokenizer.ggml.pre")
    if pre not in PATTERNS:
        known = ", ".join(PATTERNS)
        raise ModelInvalid(f"{file.path} cuts text by {one_line(str(pre), 40)!r}, and only {known} are known", CHECKPOINT)
    found = Tokenizer(BPE(vocab=vocabulary, merges=_cuts(file, vocabulary), ignore_merges=pre == "llama-bpe"))
    if PATTERNS[pre]:
        cut = pre_tokenizers.Split(Regex(PATTERNS[pre]), "isolated")
        parts = [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    else:
        digits = [pre_tokenizers.Digits(individual_digits=True)] if pre == "smollm" else []
        parts = [*digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    found.pre_tokenizer = pre_tokenizers.Sequence(parts)
    found.decoder = decoders.ByteLevel()
    return found


def _sentence_piece(file: GgufFile, tokens: list[str], vocabulary: dict[str, int]) -> Any:
    """BPE whose merges follow from the scores: two pieces that make a third merge the earlier, the better the third's score."""
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE

    scores, kinds = (file.metadata.get(f"tokenizer.ggml.{name}") for name in ("scores", "token_type"))
    if not isinstance(scores, list) or not isinstance(kinds, list) or not len(scores) == len(kinds) == len(tokens):
        raise ModelInvalid(f"{file.path} has no scores for its tokens", FIX)
    merges = []
    for number, token in enumerate(tokens):
        if kinds[number] != NORMAL:
            continue
        cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
        known = [cut for cut in cuts if cut[0] in vocabulary and cut[1] in vocabulary]
        merges += [(scores[number], cut) for cut in sorted(known, key=lambda cut: (vocabulary[cut[0]], vocabulary[cut[1]]))]
    merges.sort(key=lambda merge: -merge[0])
    unknown = file.metadata.get("tokenizer.ggml.unknown_token_id", 0)
    named = {"unk_token": tokens[unknown]} if isinstance(unknown, int) and 0 <= unknown < len(tokens) else {}
    found = Tokenizer(BPE(vocab=vocabulary, merges=[cut for _, cut in merges], fuse_unk=True, byte_fallback=True, **named))
    prefix = [normalizers.Prepend("▁")] if file.metadata.get("tokenizer.ggml.add_space_prefix", True) else []
    found.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(content=" ", left=1)] if prefix else []
    found.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return found


def _cuts(file: GgufFile, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    found = []
    for merge in file.texts("tokenizer.ggml.merges"):
        left, _, right = merge.partition(" ")
        if not {left, right, left + right} <= vocabulary.keys():
            raise ModelInvalid(f"{file.path} merges {one_line(merge, 60)!r} to what is no token of it", FIX)
        found.append((left, right))
    return found


def _add_specials(file: GgufFile, built: Any, tokens: list[str]) -> None:
    """Tokens that are whole by themselves: of the kinds control, unknown and user-defined, and those that llama.cpp takes for
    control tokens by their names alone. And the start of text, where wanted."""
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing

    kinds = file.metadata.get("tokenizer.ggml.token_type")
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise ModelInvalid(f"{file.path} does not say which tokens are special", FIX)
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind in (UNKNOWN, CONTROL) or token in ENDS]
    defined = [token for token, kind in zip(tokens, kinds, strict=True) if kind == USER and token not in ENDS]
    built.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    built.add_tokens([AddedToken(token, normalized=False, special=False) for token in defined])
    bos = _named(file, tokens, "bos")
    usual = file.metadata["tokenizer.ggml.model"] == "llama" or file.metadata.get("tokenizer.ggml.pre") == "llama-bpe"
    wanted = file.metadata.get("tokenizer.ggml.add_bos_token", usual)
    if wanted and bos is not None:
        if ":" in bos or not bos.strip():
            raise ModelInvalid(f"{file.path} has a broken start token", FIX)
        built.post_processor = TemplateProcessing(single=f"{bos}:0 $A:0", special_tokens=[(bos, tokens.index(bos))])


def _named(file: GgufFile, tokens: list[str], name: str) -> str | None:
    number = file.metadata.get(f"tokenizer.ggml.{dict(unk='unknown').get(name, name)}_token_id")
    return tokens[number] if isinstance(number, int) and 0 <= number < len(tokens) else None
