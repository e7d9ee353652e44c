"""What a client is told of a fault: the status, OpenAI's words for it, and the shape each API gives it.

Not covered: faults within a stream that has begun (openai.py, ollama.py).
"""

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from data import errors
from data.errors import InputError, PointsmanError
from data.sanitise import one_line
from tui.server.written import Json

MESSAGE_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Kind:
    """status: of HTTP; type, code: OpenAI's."""

    status: int
    type: str
    code: str | None = None


class Refused(InputError):
    """The request itself is at fault, before any engine is asked."""

    def __init__(self, what: str, fix: str = "", *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(what, fix)
        self.status = status
        self.param = param
        self.code = code


_KINDS: tuple[tuple[type[PointsmanError], Kind], ...] = (
    (errors.ModelMissing, Kind(404, "invalid_request_error", "model_not_found")),
    (errors.NotFound, Kind(404, "invalid_request_error", "not_found")),
    (errors.ContextOverflow, Kind(400, "invalid_request_error", "context_length_exceeded")),
    (errors.EngineRejected, Kind(400, "invalid_request_error")),
    (errors.InputError, Kind(400, "invalid_request_error")),
    (errors.EngineBusy, Kind(503, "server_error", "busy")),
    (errors.EngineUnavailable, Kind(503, "server_error", "unavailable")),
    (errors.EngineInterrupted, Kind(502, "server_error", "interrupted")),
    (errors.Offline, Kind(403, "permission_error", "offline")),
    (errors.StoreFull, Kind(507, "server_error", "no_space")),
)


def kind_of(fault: PointsmanError) -> Kind:
    """How a fault is told."""
    if isinstance(fault, Refused):
        types = {401: "authentication_error", 403: "permission_error"}
        return Kind(fault.status, types.get(fault.status, "invalid_request_error"), fault.code)
    return next((kind for error, kind in _KINDS if isinstance(fault, error)), Kind(500, "server_error"))


def message_of(fault: PointsmanError) -> str:
    """The fault in one line without control characters."""
    return one_line(str(fault), MESSAGE_CHARS)


def body(fault: PointsmanError, path: str) -> dict[str, Any]:
    """The fault as the API of that path shapes it."""
    if path.startswith("/api/"):
        return {"error": message_of(fault)}
    kind = kind_of(fault)
    param = fault.param if isinstance(fault, Refused) else None
    return {"error": {"message": message_of(fault), "type": kind.type, "param": param, "code": kind.code}}


def response(fault: PointsmanError, path: str, retry_s: int = 5) -> Response:
    """The whole answer to a request that failed. retry_s: what a client that meets a full queue should wait."""
    status = kind_of(fault).status
    headers = {"Cache-Control": "no-store"}
    if status == 503:
        headers["Retry-After"] = str(retry_s)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status in (408, 413, 431):
        headers["Connection"] = "close"  # what was not read must not be taken for the next request
    return Json(body(fault, path), status, headers)
