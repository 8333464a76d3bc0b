"""What a turn is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from anyio.abc import TaskGroup

from ..model import ModelBackend, ModelInfo, Sampling
from ..permissions import Permissions
from .calls import Ask, Tools
from .chunks import Emit
from .conversation import Conversation

MAX_STEPS = 100
"""Model steps in one turn, unless the agent is told otherwise."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a turn is made of, besides the prompt."""

    conversation: Conversation
    model: ModelBackend
    info: ModelInfo
    tools: Tools
    permissions: Permissions
    emit: Emit
    ask: Ask
    group: TaskGroup
    sampling: Sampling = field(default_factory=Sampling)
    max_steps: int = MAX_STEPS
    crowded: Callable[[], bool] = lambda: False
    """Whether whoever hears the updates has much to read yet."""
