"""Where the agent's words meet the engine's: a `ModelBackend` that runs a Laguna in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from acp_server.model import Message, ModelInfo, Part, Sampling, ToolSpec

from .engine.limits import MIB, Limits
from .engine.worker import Worker

if TYPE_CHECKING:
    from .engine.request import Extras, Finish, Step
    from .model.cache import Storage
    from .model.linear import Precision
    from .speaker import LagunaSpeaker, Spoken

T = TypeVar("T")

PRECISIONS: tuple[Precision, ...] = ("bf16", "int8", "int4", "fp8")
GROUPS = ("32", "64", "128")
STORAGES: dict[str, Storage] = {"fp32": "float32", "bf16": "bfloat16", "fp8": "fp8"}
NANO = Path(__file__).parent / "nano" / "checkpoint"


class LagunaBackend:
    """A Laguna checkpoint directory as a `ModelBackend`. Made at once; loaded on a thread of its own."""

    def __init__(
        self,
        directory: Path,
        *,
        device: str | None = None,
        cache: Storage | None = None,
        weights: Precision = "bf16",
        group: int = 32,
        adapter: Path | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.directory, self.adapter, self.limits = directory, adapter, limits or Limits()

        def load() -> LagunaSpeaker:
            from .loading import load  # torch begins here

            return load(
                directory,
                device=device,
                storage=cache,
                weights=weights,
                group=group,
                adapter=adapter,
                limits=self.limits,
            )

        self.worker: Worker[LagunaSpeaker] = Worker(load)

    def __repr__(self) -> str:
        state = "loaded" if self.worker.loaded.done() else "loading" if self.worker.thread else "not loaded"
        return f"<LagunaBackend {self.directory.name} [{state}]>"

    def check(self) -> None:
        """Look whether the checkpoint and the adapter are there. Raises ValueError."""
        from .checkpoint.hub import look

        look(self.directory, self.adapter)

    async def ready(self) -> ModelInfo:
        return await self.worker.ready()

    async def generate(
        self, conversation: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling
    ) -> AsyncGenerator[Part, None]:
        shown, offered = list(conversation), list(tools)
        spoken = self.worker.stream(lambda speaker, cancelled: speaker.say(shown, offered, sampling, cancelled))
        async with contextlib.aclosing(spoken) as parts:
            async for part in parts:
                yield part

    # Beyond what an agent asks, for servers that offer the model to others: these raise ModelError too, and closing
    # their generators stops the model just so.

    async def speak(
        self, conversation: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling, extras: Extras
    ) -> AsyncGenerator[Spoken, None]:
        """`generate` token by token, with what may be asked besides: stop texts, log-probabilities, constraints."""
        shown, offered = list(conversation), list(tools)

        def speak(speaker: LagunaSpeaker, cancelled: Callable[[], bool]) -> Generator[Spoken | None, None, None]:
            return speaker.speak(shown, offered, sampling, extras, cancelled)

        async with contextlib.aclosing(self.worker.stream(speak)) as spoken:
            async for one in spoken:
                yield one

    async def complete(
        self, prompt: str | Sequence[int], sampling: Sampling, extras: Extras
    ) -> AsyncGenerator[Step | Finish, None]:
        """Go on with a text as it is, or with tokens: no template, no parser."""
        spoken = self.worker.stream(lambda speaker, cancelled: speaker.complete(prompt, sampling, extras, cancelled))
        async with contextlib.aclosing(spoken) as steps:
            async for step in steps:
                yield step

    async def ask(self, question: Callable[[LagunaSpeaker], T]) -> T:
        """The answer to a short question to the loaded speaker, asked on its thread."""
        async with contextlib.aclosing(self.worker.stream(lambda speaker, _: answered(question, speaker))) as answers:
            return await anext(answers)

    async def aclose(self) -> None:
        await self.worker.close()


def answered(question: Callable[[LagunaSpeaker], T], speaker: LagunaSpeaker) -> Generator[T, None, None]:
    yield question(speaker)


def open_backend(
    path: str | None = None,
    *,
    device: str | None = None,
    weights: str | None = None,
    group: str | None = None,
    kv: str | None = None,
    adapter: str | None = None,
    at_once: str | None = None,
    waiting: str | None = None,
    cache_mib: str | None = None,
    snapshot_mib: str | None = None,
    chunk: str | None = None,
    guess: str | None = None,
) -> LagunaBackend:
    """The backend of a checkpoint directory, of laguna-nano without one. Cheap: nothing is loaded before `ready`.

    `weights` is bf16, int8 (CPU), fp8 (accelerators) or int4, `group` the size of INT4's groups, `kv` is fp32, bf16 or
    fp8: how weights and cache are held. `adapter` is the directory of one that was trained for the checkpoint. The rest
    limits the engine (`Limits`): `at_once` requests run and `waiting` ones wait, caches take `cache_mib` and snapshots
    `snapshot_mib`, a pass runs `chunk` tokens of a prompt, `guess` is on or off. All are texts, as they come from a
    command line. Raises ValueError for what makes no sense.
    """
    return LagunaBackend(
        named(path) if path else NANO,
        device=device,
        weights=one_of("weights", weights or "bf16", PRECISIONS),
        group=group_of(weights or "bf16", int(one_of("group", group, GROUPS)) if group else None),
        cache=STORAGES[one_of("kv", kv, tuple(STORAGES))] if kv else None,
        adapter=Path(adapter).expanduser().resolve() if adapter else None,
        limits=limits_of(
            running=number("at_once", at_once),
            waiting=number("waiting", waiting),
            cache=number("cache_mib", cache_mib, MIB, least=1),
            snapshots=number("snapshot_mib", snapshot_mib, MIB),
            chunk=number("chunk", chunk),
            guess=one_of("guess", guess or "on", ("on", "off")) == "on",
        ),
    )


def limits_of(**given: int | None) -> Limits:
    """The limits that are given, the others as they are. Raises ValueError."""
    found: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Limits(**found)


def group_of(weights: str, group: int | None) -> int:
    """The size of INT4's groups, 32 unless it is given. Raises ValueError where weights are in no groups."""
    if group is not None and weights != "int4":
        raise ValueError(f"group is {group}, and weights are {weights}; only those in int4 are in groups")
    return group or 32


def number(name: str, text: str | None, unit: int = 1, *, least: int = 0) -> int | None:
    """What an option says. Raises ValueError."""
    if text is None:
        return None
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f"{name} is {text!r}; it is a number{f' of at least {least}' if least else ''}")
    return int(text) * unit


def named(path: str) -> Path:
    """A directory, absolute; `nano` is the one that ships here, and a name on the hub, `ORG/NAME`, stays one."""
    place = Path(path).expanduser()
    if path == "nano" and not place.exists():
        return NANO
    return place if not place.exists() and len(place.parts) == 2 and not place.is_absolute() else place.resolve()


def one_of(name: str, value: Any, known: tuple[T, ...]) -> T:
    """The value, if it is known."""
    if value not in known:
        raise ValueError(f"{name} is {value!r}; it is one of {', '.join(map(str, known))}")
    return value
