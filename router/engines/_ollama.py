"""How Ollama is addressed and what it says: its host syntax, messages, options, events, lists, refusals.

Wire format: github.com/ollama/ollama, docs/api.md and api/types.go. Not covered: sending and receiving; see ollama.py.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from data.chat import Chunk, Message, ToolCall
from data.config import is_loopback
from data.errors import EngineBusy, EngineRejected, EngineUnavailable, ModelInvalid, PointsmanError, SettingsError
from router.engines._faults import Garbled, Refusal, Unreachable, as_list, as_object, count_of, parse_object, refusal, text_of
from router.engines._http import translated
from router.engines.base import ModelInfo, Request

NO_SUCH_MODEL = re.compile(r"^model ['\"].*['\"] not found|pull model manifest: file does not exist", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is: the URL to connect to, its host, whether that is this machine, and how it is shown."""

    url: str
    hostname: str
    loopback: bool
    shown: str


def address(host: str) -> Address:
    """`host` as Ollama reads OLLAMA_HOST (envconfig/config.go): host, host:port, :port, [v6]:port, with or without a scheme.

    A missing port is 11434, but 80 after http:// and 443 after https://. An address to listen at (0.0.0.0, ::) becomes
    this machine's own. Raises SettingsError.
    """
    scheme, found, rest = host.strip().partition("://")
    if not found:
        scheme, rest = "http", host.strip()
    ports = {"http": 80 if found else 11434, "https": 443}
    authority, slash, path = rest.partition("/")
    match = _AUTHORITY.fullmatch(authority)
    if scheme not in ports or not match or int(match["port"] or 0) > 65535:
        raise SettingsError(f"ollama.host = {host!r} is not an address", "for example 127.0.0.1:11434 (also in OLLAMA_HOST)")
    name = (match["v6"] or match["bare6"] or match["name"] or "127.0.0.1").lower()
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104, nothing listens there: it is replaced
    quoted = f"[{name}]" if ":" in name else name
    shown = f"{quoted}:{match['port'] or ports[scheme]}"
    url = f"{scheme}://{match['user'] or ''}{shown}{(slash + path).rstrip('/')}"
    return Address(url, name, is_loopback(name), shown)


def sampling_options(request: Request, max_tokens: int) -> dict[str, Any]:
    """The options that may change from call to call, always the same keys."""
    sampling = request.sampling
    return {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repeat_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repeat_last_n": sampling.repeat_last_n,
        "seed": -1 if sampling.seed is None else sampling.seed,  # -1: a new one each time
        "num_predict": max_tokens,
        "stop": list(request.stop),
    }


def plain_message(message: Message) -> dict[str, Any]:
    """The message as /api/chat takes it."""
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        plain["thinking"] = message.thinking
    if message.tool_calls:
        plain["tool_calls"] = [
            ({"id": call.id} if call.id else {}) | {"function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in message.tool_calls
        ]
    if message.tool_name:
        plain["tool_name"] = message.tool_name
    return plain


def event(line: str | None) -> dict[str, Any] | None:
    """The object on one line of a stream, None for silence and empty lines; raises Garbled, and Refusal for an error line."""
    if not line or line.isspace():
        return None
    found = parse_object(line)
    if found.get("error"):
        raise refusal(200, found)
    return found


def piece(found: Mapping[str, Any]) -> Chunk:
    """What an event adds to the answer; raises Garbled."""
    message = as_object(found.get("message") or {})
    calls = tuple(map(_call, as_list(message.get("tool_calls"))))
    return Chunk(text=text_of(message, "content"), thinking=text_of(message, "thinking"), tool_calls=calls)


def entries(answer: Any) -> list[Mapping[str, Any]]:
    """The models in an answer of /api/tags or /api/ps; raises Garbled."""
    return [as_object(entry) for entry in as_list(as_object(answer).get("models"))]


def info(entry: Mapping[str, Any]) -> ModelInfo:
    """One model of /api/tags; raises Garbled."""
    details = as_object(entry.get("details") or {})
    return ModelInfo(
        name=text_of(entry, "model") or text_of(entry, "name"),
        engine="ollama",
        size_bytes=count_of(entry, "size"),
        context_tokens=count_of(details, "context_length"),
        parameters=text_of(details, "parameter_size"),
        quantisation=text_of(details, "quantization_level"),
        family=text_of(details, "family"),
        source="Ollama",
    )


def full_name(model: str) -> str:
    """The name with its tag; names are the same in any letter case."""
    return model.lower() if ":" in model.rpartition("/")[2] else f"{model.lower()}:latest"


def refused(fault: Refusal, model: str, host: str) -> PointsmanError:
    """The error for a refusal that is not about a missing model or a full context."""
    if 300 <= fault.status < 400:
        return EngineUnavailable(f"what answers at {host} is not Ollama: {fault}", "set ollama.host to where it redirects")
    if fault.status == 404:
        return EngineUnavailable(
            f"what answers at {host} is not Ollama, or too old: {fault}", "check ollama.host, or update Ollama"
        )
    if fault.status in (429, 503):
        return EngineBusy(f"Ollama is busy: {fault}", "try again in a moment")
    for pattern, kind, what, fix in _REASONS:
        if pattern.search(fault.text):
            return kind(f"{what.format(model=model)}: {fault}", fix.format(model=model))
    if fault.status >= 500:
        return EngineUnavailable(f"Ollama failed (status {fault.status}): {fault}", "try again; its log says more")
    return EngineRejected(f"Ollama refuses: {fault}")


@contextmanager
def client_faults(silence_s: float) -> Iterator[None]:
    """Turn everything that the `ollama` client lets out into a Fault; ConnectionError and ResponseError are its own."""
    import ollama

    try:
        with translated(silence_s):
            yield
    except ollama.ResponseError as error:
        raise refusal(error.status_code, error.error) from error
    except ConnectionError as error:
        raise Unreachable("no connection") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # bad JSON, pydantic's error, JSON that is no object
        raise Garbled("its answer has an unexpected shape") from error


_AUTHORITY = re.compile(
    r"(?P<user>[^@\s]*@)?"
    r"(?:\[(?P<v6>[0-9a-fA-F:.%]+)\]|(?P<bare6>[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:.]*)|(?P<name>[^\s:@\[\]]*))"
    r"(?::(?P<port>\d{1,5}))?"
)
_REASONS: tuple[tuple[re.Pattern[str], type[PointsmanError], str, str], ...] = (
    (
        re.compile("does not support thinking", re.I),
        EngineRejected,
        "{model} cannot think before it answers",
        "ask without thinking",
    ),
    (re.compile("does not support tools", re.I), EngineRejected, "{model} cannot call tools", "choose a model that can"),
    (re.compile("does not support chat", re.I), EngineRejected, "{model} cannot chat", "choose a chat model"),
    (re.compile("unauthori[sz]ed|forbidden|signin", re.I), EngineRejected, "Ollama refuses access", "sign in with: ollama signin"),
    (
        re.compile("requires more system memory|out of memory|insufficient memory|cudaMalloc", re.I),
        EngineRejected,
        "{model} needs more memory than there is",
        "choose a smaller model, or a smaller ollama.context",
    ),
    (
        re.compile(
            "(unable|error|failed) (to load|loading) model|unknown model architecture|invalid file magic|digest mismatch", re.I
        ),
        ModelInvalid,
        "Ollama cannot load {model}",
        "pull it again: pointsman models pull ollama/{model}; or update Ollama",
    ),
    (
        re.compile("runner process has terminated|llama-server.*(exited|terminated)", re.I),
        EngineUnavailable,
        "Ollama's process for {model} crashed",
        "try again; if it happens each time, choose another model or a smaller ollama.context",
    ),
)


def _call(call: Any) -> ToolCall:
    function = as_object(as_object(call).get("function"))
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = parse_object(arguments)
    return ToolCall(text_of(function, "name"), as_object(arguments), text_of(call, "id"))
