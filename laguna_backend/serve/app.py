"""The application: which paths there are, and what each does."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from acp_server.model import ModelInfo
from acp_server.network.gate import Gate

from ..backend import LagunaBackend
from .asked import Asked, ChatAsked, TextAsked, read
from .chat import ChatAnswer
from .completions import TextAnswer
from .door import HEALTH, Door
from .logprobs import Alphabet
from .recollection import Recollection
from .refused import Refused
from .sending import AtOnce, Events

log = logging.getLogger("laguna")

OWNER = "acp-laguna"
"""By this our own agent knows that no text becomes a control token here, and sends it as it is."""


class Service:
    """A loaded model, and the answers that it gives. `name` is what requests call it, by default its own name."""

    def __init__(self, backend: LagunaBackend, name: str | None = None) -> None:
        self.backend, self.name, self.begun = backend, name or "", int(time.time())
        self.info: ModelInfo | None = None
        self.alphabet, self.vocabulary = Alphabet(lambda token: b""), 0
        self.recollection = Recollection()

    async def load(self) -> None:
        """Raises ModelError."""
        self.info = await self.backend.ready()
        self.alphabet = Alphabet(await self.backend.ask(lambda speaker: speaker.token_bytes))
        self.vocabulary = await self.backend.ask(lambda speaker: speaker.engine.laguna.config.vocab_size)
        self.name = self.name or self.info.name

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self.described()]})

    async def one_model(self, request: Request) -> Response:
        self.check(request.path_params["name"])
        return JSONResponse(self.described())

    async def chat(self, request: Request) -> Response:
        asked = read(ChatAsked, await request.body())
        self.check(asked.model)
        answer = ChatAnswer(
            self.backend, asked, request.scope["principal"], self.name, self.alphabet, self.recollection
        )
        return sent(asked, answer)

    async def complete(self, request: Request) -> Response:
        asked = read(TextAsked, await request.body())
        self.check(asked.model)
        asked.check_tokens(self.vocabulary)
        return sent(asked, TextAnswer(self.backend, asked, request.scope["principal"], self.name, self.alphabet))

    def described(self) -> dict[str, Any]:
        assert self.info is not None
        model = {"id": self.name, "object": "model", "created": self.begun, "owned_by": OWNER}
        told = self.info
        return {**model, "max_model_len": told.context_size, "bytes_per_token": told.bytes_per_token}

    def check(self, model: str | None) -> None:
        """Raises Refused for another model than ours."""
        if model is not None and model != self.name:
            message = f"there is no model {model[:80]!r} here; it is {self.name!r}"
            raise Refused(404, message, code="model_not_found", param="model")


def sent(asked: Asked, answer: ChatAnswer | TextAnswer) -> Response:
    return Events(answer.chunks()) if asked.stream else AtOnce(answer.whole)


def application(
    service: Service, gate: Gate, on_start: Callable[[], Awaitable[None]], origins: Sequence[str] = ()
) -> ASGIApp:
    """What an ASGI server runs. `on_start` is awaited before the first request; what it raises ends the server.

    Pages of `origins`, those that the gate lets in, are told by their browser what was answered.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        await on_start()
        yield
        await service.backend.aclose()

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return error.response()

    async def no_such(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return Refused(error.status_code, f"{request.method} {request.url.path}: {error.detail}").response()

    async def failed(request: Request, error: Exception) -> Response:
        log.error("a request failed", exc_info=error)
        return Refused(500, "internal error").response()

    routes = [
        Route(HEALTH, service.health),
        Route("/v1/models", service.models),
        Route("/v1/models/{name:path}", service.one_model),
        Route("/v1/chat/completions", service.chat, methods=["POST"]),
        Route("/v1/completions", service.complete, methods=["POST"]),
    ]
    handlers: Any = {Refused: refused, HTTPException: no_such, Exception: failed}
    door = Door(Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan), gate)
    # Around the door: a browser asks what a page may send, and says no token with that.
    return CORSMiddleware(door, [one.rstrip("/") for one in origins], ["GET", "POST"], ["*"]) if origins else door
