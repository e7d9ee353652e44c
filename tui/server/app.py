"""The routes: each reads what a client wants, hands it to the desk, and gives the answer its shape.

Not covered: the server's loop and its signals (running.py).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.errors import EngineBusy, PointsmanError
from router.engines.base import ModelInfo
from tui.server import faults, feedback, metrics, ollama, openai, openai_replies, reading
from tui.server.desk import Desk
from tui.server.faults import Refused
from tui.server.gate import Hosts, Token
from tui.server.offered import AUTO
from tui.server.replying import Reply, Vectors
from tui.server.wanted import Wanted
from tui.server.written import Json

M = TypeVar("M", bound=BaseModel)
CONVERSATION = "x-pointsman-conversation"
NOT_HERE = ("/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/{digest}")


class _Answer(Response):
    """Starlette takes any ASGI application for a response; this says so to the type checker."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class Routes:
    """The endpoints of one server."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._limits = desk.settings.server

    def all(self) -> list[Route]:
        """Every route."""
        posts: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/v1/chat/completions": self.chat_completions,
            "/v1/completions": self.completions,
            "/v1/embeddings": self.embeddings,
            "/api/chat": self.chat,
            "/api/generate": self.generate,
            "/api/show": self.show,
            "/api/embed": self.embed,
            "/api/embeddings": self.embed_one,
            "/feedback": self.feedback,
        }
        gets: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/v1/models": self.models,
            "/v1/models/{name:path}": self.model,
            "/api/tags": self.tags,
            "/api/ps": self.running,
            "/api/version": self.version,
            "/metrics": self.metrics,
            "/healthz": self.health,
            "/": self.root,
        }
        return [
            *(Route(path, endpoint, methods=["POST"]) for path, endpoint in posts.items()),
            *(Route(path, endpoint, methods=["GET"]) for path, endpoint in gets.items()),
            *(Route(path, self.not_here, methods=["GET", "HEAD", "POST", "DELETE"]) for path in NOT_HERE),
        ]

    async def chat_completions(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        body = await self._read(request, openai.ChatBody)
        wanted = openai.chat_wanted(body, _conversation(request))
        shape = openai_replies.Chat(body.model, bool(wanted.tools), bool(body.stream_options and body.stream_options.include_usage))
        return self._reply(wanted, shape, bool(body.stream))

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions."""
        body = await self._read(request, openai.CompletionBody)
        wanted = openai.completion_wanted(body, _conversation(request))
        shape = openai_replies.Completion(body.model, bool(body.stream_options and body.stream_options.include_usage))
        return self._reply(wanted, shape, bool(body.stream))

    async def chat(self, request: Request) -> Response:
        """POST /api/chat."""
        body = await self._read(request, ollama.ChatBody)
        if not body.messages:
            await asyncio.to_thread(self._desk.offered.reference, body.model)
            return Json(ollama.loaded(body))
        wanted = ollama.chat_wanted(body, _conversation(request))
        return self._reply(wanted, ollama.Chat(body.model, bool(wanted.tools)), body.stream is not False)

    async def generate(self, request: Request) -> Response:
        """POST /api/generate."""
        body = await self._read(request, ollama.GenerateBody)
        wanted = ollama.generate_wanted(body, _conversation(request))
        if not body.prompt:
            await asyncio.to_thread(self._desk.offered.reference, body.model)
            return Json(ollama.loaded(body))
        return self._reply(wanted, ollama.Chat(body.model, generate=True), body.stream is not False)

    async def embeddings(self, request: Request) -> Response:
        """POST /v1/embeddings."""
        body = await self._read(request, openai.EmbeddingsBody)
        work = self._desk.embed(openai.texts_of(body.input), body.model)
        return _Answer(Vectors(work, lambda rows, tokens: openai_replies.embeddings(body, rows, tokens)))

    async def embed(self, request: Request) -> Response:
        """POST /api/embed."""
        body = await self._read(request, ollama.EmbedBody)
        work = self._desk.embed(openai.texts_of(body.input), body.model)

        def shaped(rows: list[Any], tokens: int) -> dict[str, Any]:
            return {"model": body.model, "embeddings": [row.tolist() for row in rows], "prompt_eval_count": tokens}

        return _Answer(Vectors(work, shaped))

    async def embed_one(self, request: Request) -> Response:
        """POST /api/embeddings."""
        body = await self._read(request, ollama.EmbeddingsBody)
        work = self._desk.embed(openai.texts_of(body.prompt), body.model)
        return _Answer(Vectors(work, lambda rows, tokens: {"embedding": rows[0].tolist()}))

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        found = await asyncio.to_thread(self._desk.offered.all)
        return Json({"object": "list", "data": [openai_replies.model(info) for info in (ModelInfo(AUTO, ""), *found)]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{id}."""
        return Json(openai_replies.model(await asyncio.to_thread(self._desk.offered.info, request.path_params["name"])))

    async def tags(self, request: Request) -> Response:
        """GET /api/tags."""
        found = await asyncio.to_thread(self._desk.offered.all)
        return Json({"models": [ollama.tag(info) for info in (ModelInfo(AUTO, ""), *found)]})

    async def running(self, request: Request) -> Response:
        """GET /api/ps: the models that are in memory."""
        return Json({"models": await asyncio.to_thread(self._loaded)})

    async def show(self, request: Request) -> Response:
        """POST /api/show."""
        body = await self._read(request, ollama.NamedBody)
        if not (name := body.model or body.name):
            raise Refused("model is required", param="model")
        return Json(await asyncio.to_thread(self._shown, name))

    async def version(self, request: Request) -> Response:
        """GET /api/version: the level of Ollama's API, and what this really is."""
        return Json({"version": ollama.LEVEL, "pointsman": version("pointsman")})

    async def feedback(self, request: Request) -> Response:
        """POST /feedback."""
        body = await self._read(request, feedback.FeedbackBody)
        return Json(await asyncio.to_thread(feedback.keep, self._desk.store, body))

    async def metrics(self, request: Request) -> Response:
        """GET /metrics."""
        return Response(self._desk.metrics.text(), media_type=metrics.CONTENT_TYPE)

    async def health(self, request: Request) -> Response:
        """GET /healthz."""
        return Json({"status": "ok"})

    async def root(self, request: Request) -> Response:
        """GET /: what clients of Ollama look for to see whether it runs."""
        return PlainTextResponse("Ollama is running (pointsman speaks its API)")

    async def not_here(self, request: Request) -> Response:
        """What changes models on the disk is the command line's."""
        raise Refused("models are not changed over HTTP", "use: pointsman models, or the Ollama server itself", status=403)

    async def _read(self, request: Request, model: type[M]) -> M:
        return await reading.read(request, model, self._limits.body_mb * 2**20, self._limits.stall_s)

    def _reply(self, wanted: Wanted, shape: Any, stream: bool) -> Response:
        return _Answer(Reply(self._desk.begin(wanted), shape, stream))

    def _loaded(self) -> list[dict[str, Any]]:
        found = []
        for info in self._desk.offered.all():
            engine = self._desk.engines.get(info.engine)
            if info.engine == "llamacpp" and engine.standing(info.name).loaded:
                size = {"size_vram": 0, "context_length": info.context_tokens, "expires_at": "9999-12-31T23:59:59Z"}
                found.append(ollama.tag(info) | size)
        return found

    def _shown(self, name: str) -> dict[str, Any]:
        info = self._desk.offered.info(name)
        told: Mapping[str, Any] = self._desk.engines.get(info.engine).show(info.name) if info.engine else {}
        return ollama.shown(info, self._desk.offered.abilities(info), told)


def build(desk: Desk, token: str = "") -> Starlette:
    """The application over a desk, which it closes at its end."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(desk.close)

    async def refused(request: Request, fault: Exception) -> Response:
        assert isinstance(fault, PointsmanError)  # noqa: S101  what the handler is registered for
        if isinstance(fault, EngineBusy | Refused):
            desk.metrics.errors.add(type(fault).__name__)
        return faults.response(fault, request.url.path, desk.retry_s)

    async def no_route(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return faults.response(Refused(f"there is no such thing here: {request.method}", status=status), request.url.path)

    async def crashed(request: Request, error: Exception) -> Response:
        desk.metrics.errors.add("unforeseen")
        return faults.response(PointsmanError("the server met an unforeseen fault"), request.url.path)

    server = desk.settings.server
    cors = [
        Middleware(
            CORSMiddleware,
            allow_origins=list(server.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", CONVERSATION],
            expose_headers=["x-pointsman-decision", CONVERSATION],
        )
    ]
    return Starlette(
        routes=Routes(desk).all(),
        middleware=[
            Middleware(Counting, desk),
            Middleware(Hosts, server.hosts, server.origins),
            *(cors if server.origins else []),
            *([Middleware(Token, token)] if token else []),
        ],
        exception_handlers={PointsmanError: refused, HTTPException: no_route, Exception: crashed},
        lifespan=lifespan,
    )


class Counting:
    """Counts requests by route and status; what is no route is one."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._requests = desk.metrics.requests
        self._paths = {route.path for route in Routes(desk).all()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 499  # the client left before an answer

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            path = scope["path"]
            route = path if path in self._paths else "/v1/models/{id}" if path.startswith("/v1/models/") else "other"
            self._requests.add(route, str(status))


def _conversation(request: Request) -> str:
    return request.headers.get(CONVERSATION, "")[:40]
