"""Any server with /v1/chat/completions: vLLM, llama-server, `python -m llama_cpp.server`, a hosted one.

An answer is whole when a finish reason came; `[DONE]` without one is how llama_cpp.server cuts an answer off in favour of
another request. A stream that ends before it begins is asked for its reason without streaming, because some servers lose
their refusal there. Sampling fields beyond OpenAI's own are sent until a server refuses them. The key is sent as a bearer
token and never shown. Not covered: Azure's paths, adapters (vLLM serves each as a model of its own).
"""

import difflib
import re
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from data.chat import Chunk
from data.config import Settings, is_loopback, require_network
from data.errors import EngineBusy, EngineRejected, EngineUnavailable, ModelMissing, PointsmanError, SettingsError
from router.engines import _openai as wire
from router.engines._completing import Habits
from router.engines._faults import Dropped, Fault, Garbled, Refusal, Stalled, Unreachable
from router.engines._http import Server
from router.engines._remote import BUSY, SPENT, Plan, Remote, unit_vectors
from router.engines.base import Capabilities, ModelInfo, Request

LIST_S = 10.0
LANES = 4  # vLLM computes many answers at once; llama-server has four slots (its --parallel), and lets others wait
BEYOND_STANDARD = (  # repeat_penalty is llama.cpp's name, repetition_penalty vLLM's; max_tokens is what OpenAI itself gave up
    "max_tokens",
    "stream_options",
    "top_k",
    "min_p",
    "repeat_penalty",
    "repetition_penalty",
    "chat_template_kwargs",
)
NO_URL = "pointsman config set openai_compatible.url http://127.0.0.1:8000/v1"
KEY_FIX = "pointsman config set openai_compatible.api_key KEY"
URL_FIX = "check it: pointsman config set openai_compatible.url URL (it usually ends in /v1)"


class OpenAICompatible(Remote):
    """Models of the server at `openai_compatible.url`."""

    name = "openai_compatible"
    capabilities = Capabilities(embed=True, schema=True, tools=True, think=True)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.openai_compatible
        self.label = _without_user(self._settings.url).partition("//")[2].partition("/")[0] or "the server"
        self._habits = Habits(LANES)
        self._http: Server | None = None
        self._models: dict[str, ModelInfo] = {}
        self._only_standard = False  # the server refused fields beyond OpenAI's own
        self._json_object = False  # the server knows llama-cpp-python's spelling of a schema only

    def models(self) -> list[ModelInfo]:
        """The models that the server lists; raises EngineUnavailable where there is no server, or no url is set."""
        try:
            return self._listed()
        except Fault as fault:
            raise self._translated(fault, "") from fault

    def embed(self, texts: Sequence[str], model: str = "") -> NDArray[np.float32]:
        """L2-normalised vectors, shape (len(texts), dimensions)."""
        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        try:
            body = {"model": self._checked(model), "input": list(texts), "encoding_format": "float"}
            answer = self._server().json("POST", "/embeddings", body, deadline_s=self._settings.stall_s)
            return unit_vectors(wire.numbers(answer), len(texts))
        except Fault as fault:
            if isinstance(fault, Garbled) or (isinstance(fault, Refusal) and fault.status not in (401, 403, *BUSY)):
                raise EngineRejected(
                    f"{self.label} does not embed text with {model!r}: {fault}", "choose an embedding model"
                ) from fault
            raise self._translated(fault, model) from fault

    def close(self) -> None:
        """Close the connections."""
        if self._http:
            self._http.close()
        self._http = None

    def _answer(self, request: Request, plan: Plan) -> Generator[Chunk | None, None, None]:
        body = self._body(request, plan)
        answer = wire.Answer(plan.heard)
        with closing(self._server().lines("/chat/completions", body, stall_s=self._settings.stall_s)) as lines:
            for data in wire.events(lines):
                if data is None:
                    yield None
                    continue
                if data.strip() == "[DONE]":
                    break
                piece = answer.add(data)
                if piece != Chunk():
                    yield piece
        if not answer.finish:
            if not answer.begun:
                yield from self._reason(body)
            raise Dropped("it ended without a finish reason, as when another request takes its place")
        if calls := answer.tool_calls():
            yield Chunk(tool_calls=calls)
        yield Chunk(usage=answer.usage(self._window(request.model)[0]))

    def _reason(self, body: dict[str, Any]) -> Generator[None, None, None]:
        """Ask the same without streaming, for the error that a stream has lost; raises it as a Refusal, if there is one."""
        whole = {key: value for key, value in body.items() if key != "stream_options"} | {"stream": False, "max_tokens": 1}
        with closing(self._server().lines("/chat/completions", whole, stall_s=self._settings.stall_s)) as lines:
            for line in lines:
                if line is None:
                    yield None
                elif line:
                    wire.Answer().add(line)

    def _body(self, request: Request, plan: Plan) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._checked(request.model),
            "messages": wire.plain_messages(plan.turns.messages),
            "stream": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
        }
        body |= {"max_completion_tokens": plan.max_tokens} if self._only_standard else _beyond_standard(request, plan)
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if request.stop:
            body["stop"] = list(request.stop)
        if request.tools:
            body["tools"] = [dict(tool) for tool in request.tools]
        if plan.heard and plan.heard.top:
            body |= {"logprobs": True, "top_logprobs": plan.heard.top}
        if request.schema is not None:
            schema = dict(request.schema)
            strict = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
            body["response_format"] = {"type": "json_object", "schema": schema} if self._json_object else strict
        return body

    def _adapted(self, fault: Refusal, request: Request) -> bool:
        if request.schema is not None and not self._json_object and "json_object" in fault.text:
            self._json_object = True
            return True
        if not self._only_standard and wire.unknown_field(fault, BEYOND_STANDARD):
            self._only_standard = True
            return True
        return False

    def _checked(self, model: str) -> str:
        """`model` where the server lists it, the first one listed for ""; llama_cpp.server would answer with any other.

        Asked only once for each name: within llama_cpp.server even this question cuts off an answer under way.
        """
        if model and model in self._models:
            return model
        try:
            names = [info.name for info in self._listed()]
        except Unreachable:
            raise
        except Fault:
            names = []
        if (model in names) or (model and (not names or any("*" in name for name in names))):
            return model
        if not model and names:
            return names[0]
        raise self._missing(model)

    def _missing(self, model: str) -> PointsmanError:
        if not self._models:
            return ModelMissing(f"{self.label} has no model {model!r} and lists none", "name one: --model openai_compatible/NAME")
        near = difflib.get_close_matches(model, self._models, n=3, cutoff=0.4) or list(self._models)[:3]
        return ModelMissing(f"{self.label} has no model {model!r}", f"it has: {', '.join(near)}")

    def _listed(self) -> list[ModelInfo]:
        found = wire.models(self._server().json("GET", "/models", deadline_s=LIST_S))
        infos = [
            ModelInfo(name, self.name, size_bytes=size, context_tokens=context, source=self.label) for name, context, size in found
        ]
        self._models = {info.name: info for info in infos}
        return infos

    def _window(self, model: str) -> tuple[int, str]:
        known = self._models.get(model or next(iter(self._models), ""))
        return (known.context_tokens if known else 0) or self._settings.context, "start the server with a longer context"

    def _server(self) -> Server:
        if not self._settings.url:
            raise EngineUnavailable("no server is set for openai_compatible", NO_URL)
        if self._http is None:
            url, key = endpoint(self._settings.url), self._settings.api_key
            if not (key.isascii() and key.isprintable()):
                raise SettingsError("openai_compatible.api_key holds characters that no key has", KEY_FIX)
            self._http = Server(url, key=key, loopback=is_loopback(urlsplit(url).hostname or ""))
        require_network(urlsplit(self._http.url).hostname or "", "a server on another machine")
        return self._http

    def _translated(self, fault: Fault, model: str) -> PointsmanError:
        if isinstance(fault, Refusal):
            return self._refused(fault, model)
        if isinstance(fault, Unreachable):
            return EngineUnavailable(f"nothing answers at {self.label}: {fault}", f"start the server, or {URL_FIX}")
        if isinstance(fault, Stalled):
            return EngineUnavailable(f"{self.label} does not answer: {fault}", "try again, or raise openai_compatible.stall_s")
        if isinstance(fault, Garbled):
            return EngineUnavailable(f"what answers at {self.label} is no OpenAI-style server: {fault}", URL_FIX)
        return EngineUnavailable(f"{self.label} hung up before it answered: {fault}", "try again; the server's log says why")

    def _refused(self, fault: Refusal, model: str) -> PointsmanError:
        if fault.status in (401, 403):
            what = "refuses the API key" if self._settings.api_key else "wants an API key"
            return EngineRejected(f"{self.label} {what}: {fault}", KEY_FIX)
        if fault.status in BUSY:
            spent = fault.code in SPENT
            return (
                EngineRejected(f"{self.label}: {fault}")
                if spent
                else EngineBusy(f"{self.label} is busy: {fault}", "try again in a moment")
            )
        if fault.code == "model_not_found" or (fault.status == 404 and fault.structured and "model" in fault.text.lower()):
            return self._missing(model)
        if fault.status == 404 or 300 <= fault.status < 400:
            return EngineUnavailable(f"there is no OpenAI-style server at {self.label}: {fault}", URL_FIX)
        if fault.status >= 500:
            return EngineUnavailable(
                f"{self.label} failed (status {fault.status}): {fault}", "try again; the server's log says more"
            )
        return EngineRejected(f"{self.label} refuses: {fault}")


def endpoint(url: str) -> str:
    """The base of the API at `url`: /v1 where no path is given, without /chat/completions. Raises SettingsError."""
    try:
        parts = urlsplit(url.strip())
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", url.strip())
    except ValueError:
        sound = False
    if not sound:
        raise SettingsError(f"openai_compatible.url = {_without_user(url)!r} is not a URL", NO_URL)
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def build(settings: Settings) -> OpenAICompatible:
    """The engine for `openai_compatible/NAME`; connects to nothing yet."""
    return OpenAICompatible(settings)


def _beyond_standard(request: Request, plan: Plan) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "max_tokens": plan.max_tokens,
        "stream_options": {"include_usage": True},
        "top_k": request.sampling.top_k,
        "min_p": request.sampling.min_p,
        "repeat_penalty": request.sampling.repeat_penalty,
        "repetition_penalty": request.sampling.repeat_penalty,
    }
    return fields if request.think is None else fields | {"chat_template_kwargs": {"enable_thinking": request.think}}


def _without_user(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
