"""A model behind an endpoint that the client may choose, and choose anew (`providers/set`, unstable)."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from acp.errors import RequestError

from ..model import Message, ModelError, ModelInfo, Part, Sampling, ToolSpec
from ..providers import Provider
from .backend import OpenAIBackend
from .endpoint import Endpoint

log = logging.getLogger(__name__)

ID = "main"
KIND = "openai"
_OWN = ("host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding")
"""Headers that are not the client's to say."""


class RoutedBackend:
    """A `ModelBackend` and the one provider of its agent. Without an endpoint it is disabled.

    `patience` has the endpoint's other settings: the model's name, time limits, retries.
    """

    def __init__(self, endpoint: Endpoint | None, *, patience: Endpoint | None = None) -> None:
        self._patience = endpoint or patience
        self._backend = None if endpoint is None else OpenAIBackend(endpoint)
        self._steps: dict[OpenAIBackend, int] = {}

    # The model -------------------------------------------------------------------------------------

    async def ready(self) -> ModelInfo:
        return await self._now().ready()

    async def generate(
        self, conversation: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling
    ) -> AsyncGenerator[Part, None]:
        backend = self._now()
        self._steps[backend] = self._steps.get(backend, 0) + 1
        try:
            async with aclosing(backend.generate(conversation, tools, sampling)) as parts:
                async for part in parts:
                    yield part
        finally:
            self._steps[backend] -= 1
            await self._close_unused()

    async def aclose(self) -> None:
        backends = {*self._steps, *([self._backend] if self._backend is not None else [])}
        self._backend = None
        self._steps.clear()
        for backend in backends:
            await backend.aclose()

    def _now(self) -> OpenAIBackend:
        if self._backend is None:
            raise ModelError("no provider is set: the client has to say where the model is")
        return self._backend

    async def _close_unused(self) -> None:
        """A backend that was replaced lasts until its last step has ended."""
        for backend in [b for b, steps in self._steps.items() if not steps and b is not self._backend]:
            del self._steps[backend]
            await backend.aclose()

    # The provider ----------------------------------------------------------------------------------

    @property
    def providers(self) -> Sequence[Provider]:
        if self._backend is None:
            return (Provider(ID, (KIND,)),)
        return (Provider(ID, (KIND,), False, KIND, self._backend.endpoint.url),)

    async def set_provider(self, id: str, api_type: str, base_url: str, headers: Mapping[str, str]) -> None:
        _check(id)
        if api_type != KIND:
            raise RequestError.invalid_params(f"The provider speaks {KIND}, not {api_type}.", {"apiType": api_type})
        await self._route(_endpoint(self._patience, base_url, headers))
        log.info("the model is at %s now", base_url)

    async def disable_provider(self, id: str) -> None:
        _check(id)
        await self._route(None)

    async def _route(self, endpoint: Endpoint | None) -> None:
        if self._backend is not None:
            self._steps.setdefault(self._backend, 0)
        self._backend = None if endpoint is None else OpenAIBackend(endpoint)
        await self._close_unused()

    def __repr__(self) -> str:
        return f"<RoutedBackend at {self._backend.endpoint.url if self._backend else 'nowhere'}>"


def _check(id: str) -> None:
    if id != ID:
        raise RequestError.invalid_params("There is no such provider.", {"providerId": id})


def _endpoint(patience: Endpoint | None, url: str, headers: Mapping[str, str]) -> Endpoint:
    """Raises RequestError, with no header in it."""
    for name, value in headers.items():
        if name.lower() in _OWN or not name.isascii() or not value.isprintable() or not value.isascii():
            raise RequestError.invalid_params("A header cannot be sent.", {"header": name})
    try:
        endpoint = Endpoint(url) if patience is None else replace(patience, url=url, key=None)
    except ValueError as error:
        raise RequestError.invalid_params(str(error), {"baseUrl": url}) from None
    if headers and url.startswith("http:") and not endpoint.is_local:
        raise RequestError.invalid_params("Headers may not go to another machine in the clear; use https.")
    return replace(endpoint, headers=dict(headers))
