"""Model backends by name, opened when first needed: an agent can answer before it has a model."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing

import anyio
import anyio.to_thread

from .model import Checked, Message, ModelBackend, ModelError, ModelInfo, Part, Sampling, ToolSpec
from .scripted import ScriptedBackend

log = logging.getLogger(__name__)

NAMES: Mapping[str, str] = {
    "laguna": "laguna_backend:open_backend",
    "openai": "acp_server.openai.backend:open_backend",
    "scripted": "acp_server.backends:open_scripted",
}
"""Short names of backends. Any other is `module:function`, called as `function(path, device=device, **options)`."""


CANNOT_OPEN = "the model's backend cannot be opened"


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
        self._name, self._is_ours = name, name in NAMES
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
                except ValueError as error:
                    raise ModelError(str(error), shown=CANNOT_OPEN) from error
                except Exception as error:
                    log.error("backend %s cannot be opened", self.name, exc_info=error)
                    raise ModelError(f"the backend {self.name} cannot be opened: {error}", shown=CANNOT_OPEN) from error
            return self._opened

    def check(self) -> None:
        """Look, before the first need, whether there is such a backend with such options. Raises ValueError.

        One of ours is opened, which is cheap, and asked whether it has what it needs; of any other, which may take its
        time to be imported, only the module is looked for.
        """
        if not self._is_ours:
            _find(self.name.partition(":")[0])
            return
        try:
            self._opened = self._open()
        except ModelError as error:
            raise ValueError(str(error)) from error
        if isinstance(self._opened, Checked):
            self._opened.check()

    def _open(self) -> ModelBackend:
        """Raises ValueError for a backend or an option that there is not, and what the backend raises."""
        module, _, function = self.name.partition(":")
        try:
            opener: Callable[..., ModelBackend] | None = getattr(importlib.import_module(module), function, None)
        except ModuleNotFoundError as error:
            if self._is_ours:
                raise ValueError(f"{error}; the backend {self._name} needs an extra of acp-laguna") from error
            raise ValueError(f"the backend {self.name} cannot be imported: {error}") from error
        if opener is None:
            raise ValueError(f"the backend {self.name}: {module} has no {function}")
        if unknown := [name for name in self._options if not _takes(opener, name)]:
            known = ", ".join(_names(opener)) or "none"
            raise ValueError(f"--backend-option {unknown[0]}: the options of the backend {self._name} are: {known}")
        return opener(self._path, device=self._device, **self._options)

    def __repr__(self) -> str:
        return f"<NamedBackend {self.name} {'open' if self._opened else 'not opened'}>"


def _find(module: str) -> None:
    """Raises ValueError where there is no such module."""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError) as error:
        raise ValueError(f"--backend: {error}") from error
    if found is None:
        raise ValueError(f"--backend: there is no module {module!r}")


def _names(opener: Callable[..., ModelBackend]) -> list[str]:
    """The options that a backend names."""
    parameters = inspect.signature(opener).parameters.values()
    return [row.name for row in parameters if row.kind is row.KEYWORD_ONLY and row.name != "device"]


def _takes(opener: Callable[..., ModelBackend], name: str) -> bool:
    parameters = inspect.signature(opener).parameters.values()
    return name in _names(opener) or any(row.kind is row.VAR_KEYWORD for row in parameters)
