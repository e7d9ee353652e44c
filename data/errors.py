"""Every fault that Pointsman can foresee, in one tree.

    PointsmanError
    ├── SettingsError            a setting is unknown, of the wrong type, or its file cannot be read
    ├── InputError               what the user gave cannot be used (unreadable file, empty question, bad encoding)
    ├── NotFound                 a conversation, turn or answer that does not exist
    ├── Offline                  POINTSMAN_OFFLINE=1 forbids what was asked for
    ├── StoreError               the log cannot be read or written
    │   ├── StoreDamaged         the database file is not, or no longer, a sound database
    │   ├── StoreTooNew          the database was written by a newer Pointsman
    │   ├── StoreFull            no space left
    │   └── StoreReadOnly        the folder or file may not be written
    ├── RulesError               a file of routing rules is wrong, or one of its tests fails
    ├── ToolError                a tool cannot do what it was called for; told to the model, not to the user
    ├── Cancelled                nobody waits for the answer any more: no fault of an engine, nothing to fall back for
    ├── ModelError
    │   ├── ModelMissing         no engine knows a model of that name
    │   └── ModelInvalid         the model file is damaged or of an unsupported kind
    └── EngineError
        ├── EngineUnavailable    not installed, not running, or not reachable
        ├── EngineBusy           the server's queue is full; trying again later may help
        ├── EngineRejected       the engine refuses this request (capability, bad parameter)
        ├── ContextOverflow      one message is longer than the model's context
        └── EngineInterrupted    the answer broke off; what had arrived is kept

Each message says what failed and with which value; `fix` says what to do next. Only `tui/` catches these.
"""


class PointsmanError(Exception):
    """Base of all foreseeable faults: `what` failed (one line), and the `fix` (one line, may be empty)."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}; {self.fix}" if self.fix else self.what


class SettingsError(PointsmanError):
    """A setting is unknown, of the wrong type, or its file cannot be read."""


class InputError(PointsmanError):
    """What the user gave cannot be used."""


class NotFound(PointsmanError):
    """A conversation, turn or answer that does not exist."""


class Offline(PointsmanError):
    """POINTSMAN_OFFLINE=1 forbids what was asked for."""


class StoreError(PointsmanError):
    """The log cannot be read or written."""


class StoreDamaged(StoreError):
    """The database file is not, or no longer, a sound database. It is never overwritten."""


class StoreTooNew(StoreError):
    """The database was written by a newer Pointsman."""


class StoreFull(StoreError):
    """No space left for the log."""


class StoreReadOnly(StoreError):
    """The folder or file of the log may not be written."""


class RulesError(PointsmanError):
    """A file of routing rules is wrong, with line numbers, or one of its own tests fails.

    problems: every fault of the file, in the order of its lines; one may take several lines.
    """

    def __init__(self, what: str, fix: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(what, fix)
        self.problems = problems or (what,)


class ToolError(PointsmanError):
    """A tool cannot do what it was called for. The agent tells the model, which may try otherwise."""


class Cancelled(PointsmanError):
    """Nobody waits for the answer any more."""


class ModelError(PointsmanError):
    """A model cannot be used."""


class ModelMissing(ModelError):
    """No engine knows a model of that name."""


class ModelInvalid(ModelError):
    """The model file is damaged or of an unsupported kind."""


class EngineError(PointsmanError):
    """An engine failed."""


class EngineUnavailable(EngineError):
    """The engine is not installed, not running, or not reachable."""


class EngineBusy(EngineError):
    """The server's queue is full."""


class EngineRejected(EngineError):
    """The engine refuses this request."""


class ContextOverflow(EngineError):
    """One message is longer than the model's context."""


class EngineInterrupted(EngineError):
    """The answer broke off after it had begun; what had arrived is kept."""
