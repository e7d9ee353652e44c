"""The domain packs: what each is for, its labels with their rows, its examples and gates, and what is wrong with it.

Not covered: making a pack (`pointsman domains new`), and whether its labels are any good (`pointsman eval`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.content import Content

from data.errors import PointsmanError
from data.sanitise import one_line
from tui import packs, screen_keys
from tui.screens.browse import Browse
from tui.screens.picker import Row
from tui.screens.words import bar, blocks, lines, muted, named, title

if TYPE_CHECKING:
    from data.domains import Domain, Example

EXAMPLES = 5
"""Rows shown at a time."""


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack, or why it cannot be read."""

    name: str
    title: str = ""
    own: bool = False
    fault: str = ""


class DomainsScreen(Browse):
    """Packs."""

    BINDINGS: ClassVar[list[BindingType]] = [*screen_keys.DOMAINS]
    CONTEXTS = ("Rows and details", "Domains")
    HEADING = "Domains"

    def __init__(self) -> None:
        super().__init__()
        self._packs: tuple[Pack, ...] = ()
        self._at: dict[str, int] = {}

    def read(self) -> tuple[Pack, ...]:
        """See `Browse.read`."""
        from data import domains

        return tuple(_pack(name) for name in domains.names())

    def draw(self, found: tuple[Pack, ...]) -> None:
        """See `Browse.draw`."""
        self._packs = found
        self.show(list(self._listed()))

    def about(self, key: str) -> Content | None:
        """See `Browse.about`."""
        pack = self._pack_of(key)
        return lines(title(pack.name), Content.styled(one_line(pack.fault, 600), "$text-error")) if pack and pack.fault else None

    def look(self, key: str) -> Content:
        """See `Browse.look`."""
        from data import domains

        name = key.partition(":")[2]
        return told(domains.load(name), self._at.get(name, 0))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Rows can be shown of a pack that can be read."""
        pack = self._pack_of(self.highlighted) if self.is_mounted and self._rows else None
        return bool(pack and not pack.fault) if action == "example" else True

    def choose(self, key: str) -> None:
        """See `Browse.choose`."""
        self.action_example()

    def action_check(self) -> None:
        """Check the highlighted pack."""
        key = self.highlighted
        if key:
            self.note("checking …")
            self.later(key, lambda: checked(key.partition(":")[2]))

    def action_example(self) -> None:
        """Show other rows of the highlighted pack."""
        name = self.highlighted.partition(":")[2]
        self._at[name] = self._at.get(name, 0) + EXAMPLES
        self.detail()

    def _pack_of(self, key: str) -> Pack | None:
        return next((pack for pack in self._packs if key == f"pack:{pack.name}"), None)

    def _listed(self) -> Iterator[Row]:
        for pack in self._packs:
            mark = "!" if pack.fault else "●" if pack.own else " "
            words = pack.fault or pack.title
            yield Row(f"pack:{pack.name}", Content.assemble(f"{mark} ", f"{one_line(pack.name, 24):<14} ", muted(words, 100)))


def told(pack: "Domain", at: int) -> Content:
    """What a pack holds, with its rows from `at` on. Raises InputError where a file of it is damaged."""
    made, found = pack.described, packs.summary(pack)
    counts = packs.counted(pack)
    most = max((count for _, count in counts), default=0)
    rows = pack.examples
    start = at % len(rows) if rows else 0
    return blocks(
        lines(title(f"{pack.name}: {made.title}"), Content(one_line(made.description, 600))),
        lines(
            named("rows", f"{found['train']} to train, {found['validation']} to validate"),
            named("adversarial", f"{found['adversarial']} cases"),
            named("answer", ", ".join(pack.schema.get("properties", {})) or "free text"),
            named("gates", packs.gates(made.gates.model_dump(exclude_none=True))),
            named("models", ", ".join(made.base_models)),
            named("from", f"you, {pack.folder}" if found["from"] == "you" else "pointsman"),
        ),
        lines(
            title("labels") if counts else Content(),
            *(
                Content.assemble(
                    f"{one_line(label.name, 24):<18} ",
                    bar(count / most if most else 0, 10),
                    f" {count:<5}",
                    muted(label.description, 160),
                )
                for label, count in counts
            ),
        ),
        lines(title("rows") if rows else Content(), *(_example(one) for one in rows[start : start + EXAMPLES])),
    )


def checked(name: str) -> Content:
    """In a thread: every problem of a pack."""
    from data import domain_check, domains

    folder = next((place / name for place in domains.folders() if (place / name).is_dir()), Path(name))
    problems = domain_check.check(folder, (packs.rules,))
    if not problems:
        return lines(title(name), Content.styled("checked: nothing is wrong", "$text-success"))
    return lines(
        title(f"{name}: {len(problems)} problems"),
        *(Content.assemble(muted(f"{Path(one.file).name}:{one.line}: ", 120), one_line(one.text, 300)) for one in problems[:200]),
    )


def _pack(name: str) -> Pack:
    from data import domains

    try:
        found = domains.load(name)
    except PointsmanError as fault:
        return Pack(name, fault=str(fault))
    return Pack(name, found.described.title, found.folder.parent != domains.FOLDER)


def _example(one: "Example") -> Content:
    return Content.assemble(muted(f"{one.split[:5]:<6} {one_line(one.label, 20):<16} "), one_line(one.text, 160))
