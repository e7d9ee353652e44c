"""The exports of this machine as models: `<export>` is its merged model file, `<base>+<export>` the base with its adapter attached.

An export is known by the name of its folder, and looked up when it is named: a new one needs no restart, a replaced one is another.
What it promises is checked where its files are used: `Promise.keep`. Not covered: reading export.json (`data.exports`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data import exports
from data.errors import InputError, ModelInvalid, ModelMissing
from data.exports import Export, File
from data.sanitise import one_line
from router.engines._llamacpp import digests

PLUS = "+"
_OUTCOMES = {True: "passed", False: "failed", None: "not checked"}
_AGAIN = "export the run again: pointsman export"


@dataclass(frozen=True, slots=True)
class Promise:
    """What a file's bytes should be. words: what it means that they are not, for the user."""

    path: Path
    sha256: str
    words: str

    def keep(self) -> None:
        """Raise ModelInvalid where the file is another one; it is read once for each of its states."""
        found = digests.sha256(self.path)
        if found != self.sha256:
            raise ModelInvalid(f"{self.words}: {self.path} has sha256 {found[:12]}, not {self.sha256[:12]}", _AGAIN)


@dataclass(frozen=True, slots=True)
class Offer:
    """One export. name: that of its folder."""

    name: str
    folder: Path
    export: Export

    def model(self) -> Promise:
        """The model file of the chosen form. Raises ModelMissing, ModelInvalid where there is none that may be used."""
        return self._promised(self.export.model(), f"model of the form {one_line(self.export.chosen, 40)!r}")

    def adapter(self) -> Promise:
        """The adapter's file. Raises as `model`."""
        return self._promised(self.export.adapter, "adapter")

    def _promised(self, file: File | None, what: str) -> Promise:
        if file is None:
            raise ModelMissing(f"the export {self.name} has no {what}", _AGAIN)
        failed = next((one for one in self.export.checks if one.passed is False and one.of in ("", file.name)), None)
        if failed is not None:
            raise ModelInvalid(f"the export {self.name} failed its check {one_line(failed.name, 80)!r}", _AGAIN)
        path = self.folder / file.name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ModelMissing(f"the export {self.name} lacks its file {file.name}: {error.strerror}", _AGAIN) from error
        if size != file.bytes:
            raise ModelInvalid(f"{path} has {size} bytes, and the export wrote {file.bytes}", _AGAIN)
        return Promise(path, file.sha256, f"the file {file.name} of the export {self.name} was changed")


def offers() -> Iterator[Offer]:
    """The complete exports by name; damaged ones are left out."""
    for folder, export in exports.found():
        yield Offer(folder.name, folder, export)


def offer(name: str) -> Offer | None:
    """The export of that name, None where there is none. Raises ModelInvalid where it is damaged."""
    if "/" in name or "\\" in name or "\0" in name or name.startswith(".") or not name:
        return None
    folder = exports.folder() / name
    if not (folder / exports.FILE).is_file():
        return None
    try:
        return Offer(name, folder, exports.read(folder))
    except InputError as error:
        raise ModelInvalid(error.what, error.fix) from error


def provenance(offer: Offer) -> dict[str, object]:
    """What an export says of where it comes from and what was checked, as plain JSON."""
    export = offer.export
    return {
        "folder": str(offer.folder),
        "run": export.run,
        "domain": export.domain,
        "base": export.base.model_dump(),
        "chosen": export.chosen,
        "at": export.at,
        "checks": {" of ".join(filter(None, (one.name, one.of))): _OUTCOMES[one.passed] for one in export.checks},
    }
