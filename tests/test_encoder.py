"""The sentence encoder's GGUF file: against a plain forward pass in numpy, and what happens to damaged sources."""

import json
import shutil
import struct
import unicodedata
from math import erf
from pathlib import Path

import gguf
import numpy as np
import pytest

from data import catalog
from data.config import LlamaCppSettings
from data.errors import InputError, ModelInvalid
from export.encoder import convert
from router.engines.llamacpp import LlamaCpp

SENTENCES = [
    "The train is late.",
    "What is the capital of France?",
    "don't stop, can't stop; won't stop!",
    "Ça va déjà mieux, naïve façade, Ångström",
    "Zażółć gęślą jaźń",
    "ПРИВЕТ, мир",
    "请问火车站怎么走？",
    "日本語のテキスト and English together",
    "def f(x): return x ** 2  # square",
    "e-mail me at someone@example.org :-)",
    "100 % of 3.14159 is 3.14159...",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "UPPER lower MiXeD",
    "tabs\tand\nnew lines\r\nand   spaces",
    "“quoted” — with dashes – and ellipsis…",
    "emoji 😀 in the middle",
    "a",
    "?!",
    "한국어 문장입니다",
    unicodedata.normalize("NFD", "한국어 문장입니다"),
    "The quick brown fox jumps over the lazy dog, then sleeps; " * 6,
]


@pytest.fixture(scope="module")
def source() -> Path:
    return catalog.source_file(catalog.specs()["minilm-l6"])


@pytest.fixture(scope="module")
def converted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("encoder") / "F16.gguf"
    assert convert(source, target, "all-MiniLM-L6-v2", "apache-2.0") == target.stat().st_size
    return target


@pytest.fixture
def model(source: Path, tmp_path: Path) -> Path:
    """A copy of the model's folder that a test may damage; returns its safetensors file."""
    shutil.copytree(source.parent, tmp_path / "model", ignore=shutil.ignore_patterns("*.md", "data_config.json"))
    return tmp_path / "model" / source.name


def test_vectors_equal_a_plain_forward_pass(source: Path, converted: Path) -> None:
    reference = Reference(source)
    engine = LlamaCpp(LlamaCppSettings())
    found = engine.embed(SENTENCES, model=str(converted))
    engine.close()
    wanted = np.stack([reference.embed(sentence) for sentence in SENTENCES])
    cosines = (found * wanted).sum(axis=1)
    assert cosines.min() > 0.999, dict(zip(SENTENCES, cosines.tolist(), strict=True))


def test_similar_sentences_are_near(converted: Path) -> None:
    engine = LlamaCpp(LlamaCppSettings())
    one, two, other = engine.embed(
        ["My train is delayed.", "The train runs late today.", "Peel the potatoes."], model=str(converted)
    )
    engine.close()
    assert one @ two > 0.7 > 0.3 > one @ other


def test_the_file_describes_a_bert_as_llama_cpp_reads_it(converted: Path) -> None:
    reader = gguf.GGUFReader(converted)
    fields = {
        name: reader.fields[name].contents()
        for name in reader.fields
        if not name.startswith("GGUF.") and name not in ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type")
    }
    assert fields == {
        "general.architecture": "bert",
        "general.type": "model",
        "general.name": "all-MiniLM-L6-v2",
        "general.license": "apache-2.0",
        "general.file_type": 1,
        "general.quantization_version": 2,
        "bert.block_count": 6,
        "bert.context_length": 512,
        "bert.embedding_length": 384,
        "bert.feed_forward_length": 1536,
        "bert.attention.head_count": 12,
        "bert.attention.layer_norm_epsilon": pytest.approx(1e-12),
        "bert.attention.causal": False,
        "bert.pooling_type": gguf.PoolingType.MEAN,
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.bos_token_id": 101,
        "tokenizer.ggml.eos_token_id": 102,
        "tokenizer.ggml.unknown_token_id": 100,
        "tokenizer.ggml.seperator_token_id": 102,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.mask_token_id": 103,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": True,
        "tokenizer.ggml.add_sep_token": False,
        "tokenizer.ggml.normalizer.lowercase": True,
    }
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert (len(tokens), tokens[101], tokens[2000:2003]) == (30522, "[CLS]", ["▁to", "▁was", "▁he"])
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert (len(kinds), kinds["token_embd.weight"], kinds["position_embd.weight"]) == (101, "F16", "F32")
    assert {kind for name, kind in kinds.items() if name.endswith((".bias", "norm.weight"))} == {"F32"}


def test_same_input_gives_the_same_bytes(source: Path, converted: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "again.gguf", "all-MiniLM-L6-v2", "apache-2.0")
    assert (tmp_path / "again.gguf").read_bytes() == converted.read_bytes()


@pytest.mark.parametrize(
    ("file", "change", "complaint"),
    [
        ("config.json", {"model_type": "roberta"}, "model_type"),
        ("config.json", {"hidden_act": "relu"}, "hidden_act"),
        ("config.json", {"hidden_size": -1}, "hidden_size"),
        ("config.json", {"hidden_size": 512}, "of shape"),
        ("config.json", {"num_hidden_layers": 7}, "lacks 16 tensors"),
        ("config.json", {"num_hidden_layers": 5}, "no BERT of this size has"),
        ("config.json", {"vocab_size": 30523}, "30523 different words"),
        ("tokenizer_config.json", {"do_lower_case": False}, "do_lower_case"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False}, "mean or CLS"),
    ],
)
def test_other_kinds_of_encoder_are_refused_by_name(model: Path, file: str, change: dict[str, object], complaint: str) -> None:
    path = model.parent / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelInvalid, match=complaint):
        convert(model, model.parent / "out.gguf", "x")
    assert not list(model.parent.glob("*.gguf*"))


@pytest.mark.parametrize(
    "file", ["config.json", "vocab.txt", "tokenizer_config.json", "1_Pooling/config.json", "model.safetensors"]
)
def test_missing_and_scrambled_files_are_named(model: Path, file: str) -> None:
    path = model.parent / file
    path.write_bytes(b"\xff\xfe{not this}" * 3)
    with pytest.raises(ModelInvalid, match=path.name):
        convert(model, model.parent / "out.gguf", "x")
    path.unlink()
    with pytest.raises(ModelInvalid, match=path.name):
        convert(model, model.parent / "out.gguf", "x")


def test_doubled_words_in_the_vocabulary_are_refused(model: Path) -> None:
    words = (model.parent / "vocab.txt").read_text(encoding="utf-8").split("\n")
    words[5000] = words[5001]
    (model.parent / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    with pytest.raises(ModelInvalid, match="different words"):
        convert(model, model.parent / "out.gguf", "x")


def test_numbers_too_large_for_f16_are_refused(model: Path) -> None:
    with model.open("r+b") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        begin, _ = json.loads(file.read(length))["embeddings.word_embeddings.weight"]["data_offsets"]
        file.seek(8 + length + begin)
        file.write(struct.pack("<f", 1e6))
    with pytest.raises(ModelInvalid, match="too large for F16"):
        convert(model, model.parent / "out.gguf", "x")


def test_an_unwritable_target_is_an_input_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(InputError, match=r"folder\.gguf"):
        convert(source, tmp_path / "folder.gguf", "x")
    assert [path.name for path in tmp_path.iterdir() if "gguf" in path.name] == ["folder.gguf"]


class Reference:
    """BERT in plain numpy with its own reading of the weights and its own WordPiece."""

    def __init__(self, source: Path) -> None:
        raw = source.read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        self.weights = {
            name: np.frombuffer(raw[8 + length + place["data_offsets"][0] : 8 + length + place["data_offsets"][1]], "<f4").reshape(
                place["shape"]
            )
            for name, place in json.loads(raw[8 : 8 + length]).items()
            if name != "__metadata__" and place["dtype"] == "F32"
        }
        self.words = json.loads((source.parent / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]

    def embed(self, text: str) -> np.ndarray:
        ids = [101, *(token for word in self.split(text) for token in self.pieces(word)), 102]
        x = self.w("embeddings.word_embeddings")[ids] + self.w("embeddings.position_embeddings")[: len(ids)]
        x = self.norm(x + self.w("embeddings.token_type_embeddings")[0], "embeddings.LayerNorm")
        for block in range(6):
            at = f"encoder.layer.{block}"
            q, k, v = (
                self.dense(x, f"{at}.attention.self.{one}").reshape(-1, 12, 32).transpose(1, 0, 2)
                for one in ("query", "key", "value")
            )
            scores = q @ k.transpose(0, 2, 1) / 32**0.5
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed = (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(-1, 384)
            x = self.norm(x + self.dense(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
            inner = self.dense(x, f"{at}.intermediate.dense")
            inner = inner * 0.5 * (1 + np.vectorize(erf)(inner / 2**0.5))
            x = self.norm(x + self.dense(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        mean = x.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def w(self, name: str) -> np.ndarray:
        return self.weights[f"{name}.weight"]

    def dense(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.w(name).T + self.weights[f"{name}.bias"]

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * self.w(name) + self.weights[f"{name}.bias"]

    def split(self, text: str) -> list[str]:
        """Words: lower-case, without accents, with every punctuation mark and every Chinese character a word of its own."""
        spread = []
        for char in unicodedata.normalize("NFD", text.lower()):
            kind = unicodedata.category(char)
            alone = kind[0] == "P" or (char.isascii() and kind[0] == "S") or 0x3400 <= ord(char) <= 0x9FFF
            if char.isspace():
                spread.append(" ")
            elif kind not in ("Mn", "Cc", "Cf"):
                spread.append(f" {char} " if alone else char)
        return "".join(spread).split()

    def pieces(self, word: str) -> list[int]:
        """Greedy longest match; a word with a part that is not in the vocabulary is unknown as a whole."""
        found, at = [], 0
        while at < len(word):
            ends = (end for end in range(len(word), at, -1) if ("##" if at else "") + word[at:end] in self.words)
            end = next(ends, None)
            if end is None:
                return [100]
            found.append(self.words[("##" if at else "") + word[at:end]])
            at = end
        return found
