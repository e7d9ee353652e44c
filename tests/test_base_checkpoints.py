"""Checkpoint folders as bases: every family loads, what is wrong is said before hours are spent, and weights may be quantised."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny_checkpoints as tiny  # noqa: E402
import transformers  # noqa: E402
from tiny_checkpoints import QUESTION, read, refused  # noqa: E402

from data.chat import Message  # noqa: E402
from data.errors import EngineRejected, InputError, ModelInvalid, ModelMissing  # noqa: E402
from trainer.base import Base, look  # noqa: E402
from trainer.recipe import BaseTable  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.checkpoint(tmp_path / "model")


@pytest.mark.parametrize("family", tiny.CLASSES)
def test_every_supported_family_loads_from_its_checkpoint(tmp_path: Path, family: str) -> None:
    folder = tiny.checkpoint(tmp_path / family, family, template=None if family == "phi" else tiny.CHATML)
    if family == "phi":
        tiny.change(folder, "tokenizer_config.json", eos_token="<|endoftext|>")
    base = read(folder)
    assert (base.identity.family, base.identity.source) == (family, str(folder))
    assert base.identity == look(BaseTable(model=str(folder)))
    assert base.identity.parameters == sum(values.numel() for values in base.model.parameters())
    built = getattr(transformers, f"{tiny.CLASSES[family]}ForCausalLM").from_pretrained(folder, attn_implementation="eager")
    ids = torch.tensor([base.prompt_ids(QUESTION)])
    with torch.no_grad():
        assert torch.allclose(base.model(ids).logits, built(ids).logits, atol=1e-4)
    assert any("eager" in note for note in base.notes) == (family == "gemma2")
    assert base.tokenizer.pad_token_id not in base.stop_ids


def test_phi_2_has_a_plain_template_of_its_own(tmp_path: Path) -> None:
    folder = tiny.checkpoint(tmp_path / "phi", "phi", template=None)
    tiny.change(folder, "tokenizer_config.json", eos_token="<|endoftext|>")
    base = read(folder)
    assert base.prompt([Message("user", "Why?")]) == "Instruct: Why?\nOutput:"
    assert base.end == "<|endoftext|>"


def test_longrope_is_kept_to_the_context_in_which_runtimes_agree(tmp_path: Path) -> None:
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    more = {"max_position_embeddings": 2048, "original_max_position_embeddings": 512, "rope_parameters": rope}
    base = read(tiny.checkpoint(tmp_path / "phi3", "phi3", **more))
    assert base.context == 512
    assert any("longrope" in note for note in base.notes)


def test_several_weight_files_are_one_base(tmp_path: Path, folder: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "split")
    tiny.split_weights(other)
    one, two = read(folder), read(other)
    assert all(torch.equal(one.model.state_dict()[name], values) for name, values in two.model.state_dict().items())
    assert one.identity.parameters == two.identity.parameters
    assert one.identity.sha256 != two.identity.sha256
    (other / "model-00002-of-00002.safetensors").unlink()
    refused(ModelInvalid, "lacks 1 of 2 weight files", other)


def test_the_end_tokens_of_all_files_stop_an_answer(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [4, 2]}), encoding="utf-8")
    assert set(read(folder).stop_ids) == {0, 2, 4}


def test_padding_falls_back_to_a_row_that_no_token_uses(folder: Path) -> None:
    built = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    built["added_tokens"] = [token for token in built["added_tokens"] if token["content"] != "<|reserved|>"]
    (folder / "tokenizer.json").write_text(json.dumps(built), encoding="utf-8")
    base = read(folder)
    assert base.tokenizer.pad_token == "<|pad|>"
    assert base.tokenizer.pad_token_id < base.model.config.vocab_size
    assert base.model.get_input_embeddings().weight.shape[0] == base.model.config.vocab_size


def test_one_start_token_where_the_family_wants_one(tmp_path: Path) -> None:
    base = read(tiny.checkpoint(tmp_path / "bos", adds_bos=True))
    assert base.prompt_ids([Message("user", "<s>hi")]).count(base.tokenizer.bos_token_id) == 1
    written = read(tiny.checkpoint(tmp_path / "written", adds_bos=True, template="{{ bos_token }}" + tiny.CHATML))
    assert written.prompt_ids([Message("user", "hi")]).count(base.tokenizer.bos_token_id) == 1


def test_a_template_that_refuses_a_conversation_says_so(tmp_path: Path) -> None:
    template = "{% if messages | length > 3 %}{{ raise_exception('too long') }}{% endif %}" + tiny.CHATML
    base = read(tiny.checkpoint(tmp_path / "strict", template=template))
    with pytest.raises(EngineRejected, match="too long"):
        base.prompt([Message(role, "x") for role in ("user", "assistant", "user", "assistant", "user")])


def test_the_licence_of_a_folder_stands_in_its_card(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\nlicense: other\n", encoding="utf-8")
    assert look(BaseTable(model=str(folder))).licence == "apache-2.0"


def test_code_that_only_copies_transformers_is_not_run_and_code_of_its_own_is_refused(folder: Path) -> None:
    (folder / "modeling_llama.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    tiny.change(folder, "config.json", auto_map={"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"})
    assert any("not run" in note for note in read(folder).notes)
    tiny.change(folder, "config.json", auto_map={"AutoModelForCausalLM": "modeling_llama.FasterForCausalLM"})
    refused(ModelInvalid, "FasterForCausalLM.*never run", folder)
    tiny.change(folder, "config.json", auto_map=None)
    tiny.change(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenizing.Own", None]})
    refused(ModelInvalid, "tokenizing.Own", folder)


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("config.json", {"model_type": "mamba"}, "'mamba'.*supported are: llama"),
        ("config.json", {"model_type": ["llama"]}, "not supported"),
        ("config.json", {"architectures": ["LlamaForSequenceClassification"]}, "not to write text"),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}, "quantised already .gptq."),
        ("config.json", {"num_hidden_layers": 3}, "does not fit.*layers.2"),
        ("config.json", {"num_hidden_layers": 1}, "does not fit.*layers.1"),
        ("config.json", {"hidden_size": 64}, "model"),
        ("config.json", {"hidden_size": "wide"}, "does not make a model"),
        ("config.json", {"num_attention_heads": 0}, "does not make a model"),
        ("config.json", {"vocab_size": 100}, "model"),
        ("tokenizer_config.json", {"chat_template": None}, "no chat template"),
        ("tokenizer_config.json", {"chat_template": "{% if %}"}, "template.*does not work"),
        ("tokenizer_config.json", {"eos_token": "<never>"}, "names no end token"),
        ("tokenizer.json", {"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}}, "broken tokenizer.json"),
    ],
)
def test_checkpoints_that_contradict_themselves_are_refused(folder: Path, file: str, values: dict, words: str) -> None:
    tiny.change(folder, file, **values)
    refused(ModelInvalid, words, folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000], ids=["empty", "open", "list", "deep"])
def test_broken_files_of_a_checkpoint_are_named(folder: Path, file: str, content: str) -> None:
    (folder / file).write_text(content, encoding="utf-8")
    assert file in refused(ModelInvalid, "", folder)


def test_weights_that_are_cut_off_missing_or_not_numbers_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    for damaged in (content[:-10], content[:100], b"", b"\xff" * 64):
        weights.write_bytes(damaged)
        with pytest.raises(ModelInvalid, match="damaged or cut off"):
            look(BaseTable(model=str(folder)))
    weights.write_bytes(content[:-4] + np.float32(np.nan).tobytes())
    refused(ModelInvalid, "not finite", folder)
    weights.unlink()
    refused(ModelInvalid, "has no model.safetensors", folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert "convert" in refused(ModelInvalid, "pickles", folder)
    (folder / "config.json").unlink()
    refused(ModelInvalid, "pickles", folder)


def test_an_index_that_leads_out_of_its_folder_is_refused(tmp_path: Path, folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", tmp_path / "evil.safetensors")
    for name in ("../evil.safetensors", str(tmp_path / "evil.safetensors"), "evil.bin"):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}), encoding="utf-8")
        refused(ModelInvalid, "index.json", folder)


def test_folders_that_are_no_checkpoint_say_what_they_are(tmp_path: Path, folder: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(ModelMissing, "no config.json", empty)
    (empty / "adapter_config.json").write_text("{}", encoding="utf-8")
    refused(ModelInvalid, "base.adapter", empty)
    (empty / "adapter_config.json").unlink()
    (empty / "model.gguf").write_bytes(b"")
    refused(ModelInvalid, "name one of the files", empty)
    (folder / "tokenizer.json").unlink()
    refused(ModelInvalid, "has no tokenizer.json", folder)
    refused(ModelInvalid, "name its folder", folder / "model.safetensors")
    (folder / "model.pt").write_bytes(b"\x80\x04.")
    refused(ModelInvalid, "pickles", folder / "model.pt")


@pytest.mark.parametrize(
    "name", ["smollm2-135", "smolm2", "./nowhere", "/nowhere/model.gguf", "", "a\0b", "x" * 5000, "a/b/c", "\x1b[2J"]
)
def test_bases_that_do_not_exist_are_missing(name: str) -> None:
    said = refused(ModelMissing, "", name)
    assert ("did you mean smollm2-135m" in said) == name.startswith("smol")
    assert "\x1b" not in said


def test_an_encoder_writes_no_text_and_a_file_has_no_revision(folder: Path) -> None:
    refused(ModelInvalid, "encoder", "minilm-l6")
    refused(InputError, "no revisions", folder, revision="main")


# Quantised in memory


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft 0.21 asks transformers 5.23 by the old name
def test_nf4_keeps_linear_layers_in_four_bits_and_an_adapter_trains_on_them(tmp_path: Path) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    folder = tiny.checkpoint(tmp_path / "model", hidden_size=64, intermediate_size=128)
    plain = read(folder)
    for source in (folder, tiny.as_gguf(folder, tmp_path / "model.gguf")):
        base = read(source, quantisation="nf4")
        names, linear = zip(*((name, part) for name, part in base.model.named_modules() if name.endswith("_proj")), strict=True)
        assert len(linear) == 14 and all(isinstance(part, bitsandbytes.nn.Linear4bit) for part in linear)
        assert {part.weight.quant_state.quant_type for part in linear} == {"nf4"}
        assert not any(values.requires_grad for values in base.model.parameters())
        ids = torch.tensor([base.prompt_ids(QUESTION)])
        with torch.no_grad():  # in eval mode, after which gradients must still pass
            base.model(ids)
        for name, part in zip(names, linear, strict=True):
            values = bitsandbytes.functional.dequantize_4bit(part.weight.data, part.weight.quant_state)
            exact = plain.model.get_submodule(name).weight
            assert (values - exact).abs().mean() < 0.12 * exact.abs().mean()
        assert_adapter_learns(base, ids)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_int8_keeps_linear_layers_in_eight_bits_and_an_adapter_trains_on_them(folder: Path) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    base, plain = read(folder, quantisation="int8"), read(folder)
    linear = [part for name, part in base.model.named_modules() if name.endswith("_proj")]
    assert len(linear) == 14 and all(isinstance(part, bitsandbytes.nn.Linear8bitLt) for part in linear)
    ids = torch.tensor([base.prompt_ids(QUESTION)])
    with torch.no_grad():
        near, exact = (one.model(ids).logits.flatten() for one in (base, plain))
    assert torch.nn.functional.cosine_similarity(near, exact, dim=0) > 0.99
    assert_adapter_learns(base, ids)


def test_widths_that_four_bits_get_wrong_on_a_processor_are_refused(folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    refused(InputError, "rows of 32 4-bit weights", folder, quantisation="nf4")


def assert_adapter_learns(base: Base, ids: torch.Tensor) -> None:
    """A LoRA adapter of all linear layers gets gradients in every layer, and nothing else does."""
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(base.model, peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    model(ids, labels=ids).loss.backward()
    trained = {name: values for name, values in model.named_parameters() if values.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert all(bool(values.grad.abs().sum() > 0) for name, values in trained.items() if "lora_B" in name)
