"""Model backends by name, opened when first needed: an agent can answer before it has a model."""

from __future__ import annotations

import importlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import cast

import anyio
import anyio.to_thread

from .model import Message, ModelBackend, ModelError, ModelInfo, Part, Sampling, ToolSpec
from .scripted import ScriptedBackend

log = logging.getLogger(__name__)

NAMES: Mapping[str, str] = {
    "laguna": "laguna_backend:open_backend",
    "openai": "acp_server.openai.backend:open_backend",
    "scripted": "acp_server.backends:open_scripted",
}
"""Short names of backends. Any other is `module:function`, called as `function(path, device=device, **options)`."""


def open_scripted(path: str | None = None, *, device: str | None = None) -> ModelBackend:
    """The scripted model; it has no checkpoint and no device."""
    return ScriptedBackend()


class NamedBackend:
    """A `ModelBackend` that imports and opens another one, in a thread, the first time it is wanted."""

    def __init__(
        self,
        name: str,
        path: str | None = None,
        *,
        device: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.name = NAMES.get(name, name)
        if ":" not in self.name:
            raise ValueError(f"no backend {name!r}; it is one of {', '.join(NAMES)} or MODULE:FUNCTION")
        self._path = path
        self._device = device
        self._options = dict(options or {})
        self._opened: ModelBackend | None = None
        self._opening = anyio.Lock()

    async def ready(self) -> ModelInfo:
        return await (await self._backend()).ready()

    async def generate(
        self, conversation: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling
    ) -> AsyncGenerator[Part, None]:
        backend = await self._backend()
        async with aclosing(backend.generate(conversation, tools, sampling)) as parts:
            async for part in parts:
                yield part

    async def aclose(self) -> None:
        if self._opened is not None:
            await self._opened.aclose()

    async def _backend(self) -> ModelBackend:
        async with self._opening:
            if self._opened is None:
                try:
                    self._opened = await anyio.to_thread.run_sync(self._open)
                except ModelError:
                    raise
                except ModuleNotFoundError as error:
                    raise ModelError(f"{error}; {self.name.split(':')[0]} needs an extra of acp-laguna") from error
                except Exception as error:
                    log.error("backend %s cannot be opened", self.name, exc_info=error)
                    raise ModelError(f"the backend {self.name} cannot be opened: {error}") from error
            return self._opened

    def _open(self) -> ModelBackend:
        module, _, function = self.name.partition(":")
        opener = cast("Callable[..., ModelBackend]", getattr(importlib.import_module(module), function))
        return opener(self._path, device=self._device, **self._options)

    def __repr__(self) -> str:
        return f"<NamedBackend {self.name} {'open' if self._opened else 'not opened'}>"
