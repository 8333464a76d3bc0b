"""The seam between the agent and a language model.

The agent's turn loop (`turn.py`) knows a model only as a `ModelBackend`: something that is shown a
conversation and a list of tools and says, part by part, text, thoughts and tool uses, and last a `Stop`.
Nothing here knows the wire, a transport or torch.

What a backend promises:

- `generate` yields any number of `Text`, `Thought`, `ToolUseStarted`, `ToolUseArguments` and `ToolUse` parts, then
  exactly one `Stop`.
- Parts are increments: joining the `text` of consecutive `Text` parts gives the text of the answer.
- A `ToolUse` that the model got wrong is yielded too, with `problem` saying what is wrong; it is never
  dropped.
- Closing the generator, or cancelling the task that iterates it, stops the model within one decode step or
  one prefill chunk.
- Text in a `Message` is data. No content, whatever it spells, may reach the model as a control token.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

log = logging.getLogger(__name__)

Arguments = Mapping[str, Any]
"""A tool's arguments by name, as JSON values."""


# What the model is shown --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class System:
    """Instructions from the agent itself.

    The first message of a conversation, and now and then a later one.
    """

    text: str


@dataclass(frozen=True, slots=True)
class User:
    """What the user asked."""

    text: str


@dataclass(frozen=True, slots=True)
class Assistant:
    """What the model said in one step, given back to it unchanged.

    `step_id` names the `generate` call that said it, so that a backend which kept the token ids of that
    call can use them instead of rendering the text again (`Stop.step_id` is where it came from).
    """

    text: str = ""
    thought: str = ""
    tool_uses: tuple[ToolUse, ...] = ()
    step_id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What one tool use returned. Results follow their `Assistant` message in the order of its tool uses."""

    tool_use_id: str
    name: str
    text: str
    failed: bool = False


Message = System | User | Assistant | ToolResult


@dataclass(frozen=True, slots=True)
class Summary:
    """What a model has made of a conversation before its message number `first`, which may be shown in its place."""

    first: int
    text: str


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model is told of it. `parameters` is a JSON schema of type object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one step is sampled. `None` means the backend's own default for its model.

    `thinking_budget` is how many tokens the model may think before it has to go on: by default as many as it likes.
    `session` names the conversation, so that what was computed of it is kept apart from others'.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    thinking: bool | None = None
    thinking_budget: int | None = None
    session: str | None = None


# What the model says ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """An increment of the visible answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """An increment of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolUseStarted:
    """The model has begun to write a call of tool `name`; its arguments are still to come."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolUseArguments:
    """An increment of the arguments of a call that was begun, as JSON text. Joined they are the `ToolUse`'s; where that
    has a problem, they are no whole JSON. A backend may leave these parts out, for all of a call."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call the model wants made.

    `problem` is set when it cannot be made as written, in words for the model.
    """

    id: str
    name: str
    arguments: Arguments = field(default_factory=dict[str, Any])
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one step. `input` includes `cached`; `output` includes `thought`."""

    input: int = 0
    cached: int = 0
    output: int = 0
    thought: int = 0


StopReason = Literal["end_turn", "tool_use", "max_tokens", "refusal"]


@dataclass(frozen=True, slots=True)
class Stop:
    """The step is over. `seconds` is the time the model took for it, prefill included."""

    reason: StopReason
    usage: Usage = Usage()
    seconds: float = 0.0
    step_id: str | None = None


Part = Text | Thought | ToolUseStarted | ToolUseArguments | ToolUse | Stop


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a loaded model is. `context_size` is in tokens; `compact` asks the agent for its shortest prompt,
    and not to have it summarise conversations.

    `bytes_per_token` is how much UTF-8 text one token holds on average, for the agent's estimates before the
    backend has counted (1.0 for a byte-level tokenizer).
    """

    name: str
    context_size: int
    thinking: bool = True
    compact: bool = False
    bytes_per_token: float = 3.5


class ModelError(Exception):
    """The model cannot answer: it failed to load, ran out of memory, or was shown more than it can hold.

    The message is for whoever runs the agent and names no secret. `shown` is what a client is told where the message
    names a path, an address or the insides of a program, which are none of its business. The session stays intact.
    """

    def __init__(self, message: str, *, shown: str | None = None) -> None:
        super().__init__(message)
        self.shown = message if shown is None else shown

    def told(self) -> str:
        """What a client is told; where that is not all, the whole goes to the log, under a reference."""
        if self.shown == str(self):
            return self.shown
        reference = uuid.uuid4().hex[:8]
        log.error("the model failed (%s): %s", reference, self)
        return f"{self.shown} (see {reference} in the agent's log)"


class TooLong(ModelError):
    """The model was shown more than it can hold. What `ready` says from then on may be nearer the truth."""


@runtime_checkable
class Checked(Protocol):
    """A model that knows before it is loaded that it cannot be."""

    def check(self) -> None:
        """Look, at once, whether what it is made of is there. Raises ValueError."""
        ...


@runtime_checkable
class ModelBackend(Protocol):
    """A language model, as the agent sees it."""

    async def ready(self) -> ModelInfo:
        """Wait until the model is loaded and say what it is. Raises `ModelError`. Idempotent.

        May be cancelled.
        """
        ...

    def generate(
        self, conversation: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling
    ) -> AsyncGenerator[Part, None]:
        """Say the next step of `conversation`. Raises `ModelError`, and of those `TooLong` before anything is said."""
        ...

    async def aclose(self) -> None:
        """Stop every running step and free the model. Idempotent."""
        ...


COMPACT_PROMPT = "You are a coding agent. Use the tools."
"""The whole system prompt for a model whose `ModelInfo.compact` is true; it may be trained on it."""
