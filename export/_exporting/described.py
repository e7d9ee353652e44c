"""What an export says of itself to Ollama: the Modelfile, with the proof that its template writes the model's own prompts."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from data import paths
from data.chat import Message
from data.errors import EngineRejected
from data.exports import Check
from export import modelfile
from export._exporting.course import Made
from export._exporting.source import Source
from export._verify import computing
from export._verify.computing import Spelled
from export.modelfile import Found, Parts
from router.engines._llamacpp import header
from router.engines._llamacpp.vocab import MARK

MODELFILE, ADAPTER_MODELFILE, BASE = "Modelfile", "Modelfile.adapter", "base.gguf"


def parts(source: Source, made: Made) -> tuple[Parts, tuple[Check, ...]]:
    """The parts of the chosen form's Modelfile, and whether its TEMPLATE is proven. Raises ModelInvalid."""
    file = made.forms[made.chosen]
    spelled = made.spelled or computing.spell(file, [], list(modelfile.SHAPES.values()), None)
    found = template(spelled)
    metadata = header.check(file).metadata
    limit = min(filter(None, (modelfile.rope_limit(metadata), made.exact_context, found.context if found else 0)), default=0)
    own = modelfile.parameters_for(
        stops=(*spelled.stops, *(found.stops if found else ())),
        context_tokens=header.check(file).context_tokens or 2048,
        rope_tokens=limit,
        classifier=source.classifier,
    )
    told = Parts(
        model_file=file.name,
        parameters={**own, **source.parameters},
        system=source.system,
        template=found.template if found else None,
        licence=source.licence,
        note=_note(source, made, found),
    )
    return told, (_proven(spelled, found), _carried(told))


def template(spelled: Spelled) -> Found | None:
    """The family template that writes what the file's own template writes; None where there is none."""
    return modelfile.template_for(spelled.template, _render(spelled), bos=spelled.bos_text, adds_bos=spelled.adds_bos)


def differing(told: Parts, spelled: Spelled) -> tuple[str, ...]:
    """The shapes of conversations for which a Modelfile's TEMPLATE writes another prompt than the file's own template."""
    if told.template is None:
        return ()
    return modelfile.differing(told.template, _render(spelled), bos=spelled.bos_text, adds_bos=spelled.adds_bos)


def write(folder: Path, told: Parts, name: str = MODELFILE) -> Path:
    """Write the Modelfile; what its grammar cannot carry is left to the create API, and a comment says so."""
    with paths.replacing(folder / name, 0o644) as out:
        out.write(modelfile.compose(told, api=True).encode())
    return folder / name


def write_for_adapter(folder: Path, told: Parts, adapter: Path, base: Path) -> Path:
    """A Modelfile that attaches the adapter to its base, which is laid beside it, for an Ollama that still does that."""
    beside = folder / BASE
    try:
        os.link(base, beside)
    except OSError:  # another file system, or links are forbidden
        shutil.copyfile(base, beside)
    return write(folder, replace(told, model_file=beside.name, adapter_file=adapter.name), ADAPTER_MODELFILE)


def _render(spelled: Spelled) -> Callable[[list[Message]], str]:
    """What the file's own template makes of the SHAPES, as `export.modelfile` asks for it."""
    prompts = spelled.prompts[-len(modelfile.SHAPES) :]
    known = dict(zip(modelfile.SHAPES.values(), (text for text, _ in prompts), strict=True))

    def render(messages: list[Message]) -> str:
        text = known[tuple(messages)]
        if text is None:
            raise EngineRejected("the model's chat template refuses this conversation")
        return text.replace(MARK, "")

    return render


def _proven(spelled: Spelled, found: Found | None) -> Check:
    count = len(modelfile.SHAPES)
    if found is None:
        why = "not checked: no TEMPLATE is written, for none of modelfiles/ writes this model's prompts; Ollama uses the file's own"
        return Check(name="template", of=MODELFILE, passed=None, note=why)
    refused = f", {len(found.refused)} of which the model's own refuses" if found.refused else ""
    note = f"{found.family}: the same prompts as the model's own over {count} conversations{refused}"
    wrong = modelfile.differing(found.template, _render(spelled), bos=spelled.bos_text, adds_bos=spelled.adds_bos)
    return Check(name="template", of=MODELFILE, passed=not wrong, value=len(wrong), limit=0, note=note)


def _carried(told: Parts) -> Check:
    """Whether the Modelfile says what is meant, read back as Ollama reads it."""
    left_out: Sequence[str] = modelfile.uncarried(told)
    text = modelfile.compose(told, api=True)
    back = modelfile.parse(text)
    same = back.model_file == told.model_file and ("system" in left_out or back.system == told.system)
    note = f"its {', '.join(left_out)} goes through the create API alone" if left_out else "read back as it was written"
    return Check(name="Modelfile", of=MODELFILE, passed=same, value=len(left_out), note=note)


def _note(source: Source, made: Made, found: Found | None) -> str:
    lines = [f"{source.name}: {source.base.source} tuned{f' for {source.domain}' if source.domain else ''}, in {made.chosen}."]
    if source.failed_gates:
        lines.append(f"It did NOT pass its gates: {source.failed_gates}")
    return "\n".join([*lines, *([found.note] if found and found.note else [])])
