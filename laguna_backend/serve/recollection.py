"""What the model said lately, known again when it comes back in the next request of its conversation.

OpenAI's form has no name for a step, and most programs send no thoughts back. So a message of the assistant's that says
what was said, after the very messages that it was said after, is taken for it: its thoughts are there again, as the
model is used to, and its tokens can be used as they were.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from acp_server.model import Assistant, Message, System, ToolResult, User

REMEMBERED = 64


class Recollection:
    """The last answers. `owner` is whose they were; nobody else's conversations are told of them."""

    def __init__(self) -> None:
        self._said: OrderedDict[bytes, Assistant] = OrderedDict()

    def remember(self, owner: str, before: Sequence[Message], said: Assistant) -> None:
        """`before` is the conversation that it was said after."""
        self._said[_places(owner, [*before, said])[-1]] = said
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)

    def recognised(self, owner: str, messages: Sequence[Message]) -> list[Message]:
        """The messages, those of the assistant's as they were said where that is known."""
        found = list[Message]()
        for place, message in zip(_places(owner, messages), messages, strict=True):
            said = self._said.get(place)
            same = said is not None and isinstance(message, Assistant) and message.thought in ("", said.thought)
            found.append(said if said is not None and same else message)
        return found


def _places(owner: str, messages: Sequence[Message]) -> list[bytes]:
    """For each message a name for it and all before it, whatever was thought."""
    state, places = hashlib.sha256(json.dumps(owner).encode()), list[bytes]()
    for message in messages:
        state.update(json.dumps(_told(message), sort_keys=True).encode())
        places.append(state.digest())
    return places


def _told(message: Message) -> list[Any]:
    match message:
        case Assistant(text, _, uses):
            return ["assistant", text, [[use.name, dict(use.arguments)] for use in uses]]
        case ToolResult(_, name, text):
            return ["tool", name, text]
        case System(text):
            return ["system", text]
        case User(text):
            return ["user", text]
