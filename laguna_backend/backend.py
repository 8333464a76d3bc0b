"""Where the agent's words meet the engine's: a `ModelBackend` that runs a Laguna in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from acp_server.model import Message, ModelInfo, Part, Sampling, ToolSpec

from .worker import Worker

if TYPE_CHECKING:
    from .cache import Storage
    from .speaker import LagunaSpeaker

NANO = Path(__file__).parent / "nano" / "checkpoint"


class LagunaBackend:
    """A Laguna checkpoint directory as a `ModelBackend`. Made at once; loaded on a thread of its own."""

    def __init__(self, directory: Path, *, device: str | None = None, cache: Storage | None = None) -> None:
        self.directory = directory

        def load() -> LagunaSpeaker:
            from .loading import load  # torch begins here

            return load(directory, device=device, storage=cache)

        self.worker = Worker(load)

    def __repr__(self) -> str:
        state = "loaded" if self.worker.loaded.done() else "loading" if self.worker.thread else "not loaded"
        return f"<LagunaBackend {self.directory.name} [{state}]>"

    async def ready(self) -> ModelInfo:
        return await self.worker.ready()

    async def generate(
        self, conversation: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling
    ) -> AsyncGenerator[Part, None]:
        async with contextlib.aclosing(self.worker.say(conversation, tools, sampling)) as parts:
            async for part in parts:
                yield part

    async def aclose(self) -> None:
        await self.worker.close()


def open_backend(path: str | None = None, *, device: str | None = None) -> LagunaBackend:
    """The backend of a checkpoint directory, of laguna-nano without one. Cheap: nothing is loaded before `ready`."""
    return LagunaBackend(Path(path).expanduser().resolve() if path else NANO, device=device)
