"""A Hugging Face checkpoint -> one GGUF file for llama.cpp, written here: no clone, no compiler, no torch.

The families are those of `export.families`; for any other, llama.cpp's own converter runs in a child process
(`export.converter`). What it writes, this writes: tests compare every tensor byte for byte and every key. The weights are read and
written a part at a time, so that a checkpoint larger than memory is no problem. Not covered: quantising beyond Q8_0
(`export.quantise`), adapters (`export.adapter`), and proving the result (`export.verify`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import InputError
from export.families import is_known, of_config
from export.files import need_space, whole_file
from export.quantise import Fallback

if TYPE_CHECKING:
    from export._gguf.checkpoint import Folder

FORMS = ("F32", "F16", "BF16", "Q8_0")
_HEADER_BYTES = 64 << 20  # a vocabulary of 256 thousand tokens takes some 10 MB

Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Written:
    """A GGUF file that was made of a checkpoint.

    fallbacks: tensors whose rows do not suit the form; exact_context: the largest n_ctx at which llama.cpp computes what
    transformers does, 0: any; notes: what else differs, in words. converted: by llama.cpp's own converter.
    """

    path: Path
    architecture: str
    form: str
    tensors: int
    size_bytes: int
    fallbacks: tuple[Fallback, ...] = ()
    exact_context: int = 0
    notes: tuple[str, ...] = ()
    converted: bool = False


def write(
    checkpoint: Path,
    target: Path,
    form: str = "F16",
    *,
    name: str = "",
    template: str | None = None,
    tell: Tell = lambda line: None,
    fetch: bool = False,
) -> Written:
    """Write the checkpoint, a folder with config.json, safetensors and a tokenizer, to `target`; same input, same bytes.

    name: of the model, else the folder's. template: the chat template, in place of the checkpoint's own ("": none). tell: gets
    plain lines. fetch: whether llama.cpp's converter, which only unknown architectures need, may be downloaded.
    Raises ModelInvalid naming what is damaged, missing, or computed otherwise by llama.cpp, ModelMissing where there is no
    checkpoint, InputError for an unknown form and for a lack of space; `target` is then as it was before.
    """
    if form not in FORMS:
        raise InputError(f"there is no form {form!r}", f"choose one of {', '.join(FORMS)}")
    from export._gguf.checkpoint import CONFIG, Folder

    folder = Folder(checkpoint)
    if is_known(folder.json(CONFIG)):
        return _written(folder, target, form, name, template, tell)
    from export import converter

    converter.convert(checkpoint, target, form, name=name, tell=tell, fetch=fetch)
    return _described(target, form)


def _written(folder: "Folder", target: Path, form: str, name: str, template: str | None, tell: Tell) -> Written:
    from gguf import GGUFWriter

    from export._gguf import metadata, rope, special, tensors, vocabulary
    from export._gguf.checkpoint import CONFIG, Weights

    config = folder.json(CONFIG)
    family = of_config(config)
    metadata.require_computable(config, family)
    turned = rope.of_config(config, family)
    weights = Weights(folder)
    planned = tensors.plan(weights, family, form, turned.tensors)
    words = vocabulary.read(folder, family)
    need_space(target.parent, sum(one.bytes for one in planned) + _HEADER_BYTES)
    with whole_file(target) as temporary:
        writer = GGUFWriter(temporary, family.architecture)
        try:
            tensors.declare(writer, planned)
            metadata.add_general(writer, folder, special.model_name(folder, name or folder.path.resolve().name))
            metadata.add_sizes(writer, config, family, turned, form)
            words.add(writer)
            special.add(writer, folder, family, words, template)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            for number, one in enumerate(tensors.write(writer, planned, weights), start=1):
                tell(f"writing {target.name}: {number} of {len(planned)} tensors ({one.placed.name})")
        finally:
            writer.close()
    limit, why = metadata.exact_context(config, family, turned)
    return Written(
        path=target,
        architecture=family.architecture,
        form=form,
        tensors=len(planned),
        size_bytes=target.stat().st_size,
        fallbacks=tuple(Fallback(one.placed.name, form, one.form) for one in planned if one.form not in (form, "F32")),
        exact_context=limit,
        notes=(*([why] if why else []), *words.notes),
    )


def _described(target: Path, form: str) -> Written:
    """What llama.cpp's converter wrote, read back from the file's header."""
    from router.engines._llamacpp import header

    found = header.check(target)
    return Written(target, found.architecture, form, len(found.tensors), found.size_bytes, converted=True)
