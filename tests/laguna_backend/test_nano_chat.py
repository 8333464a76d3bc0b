"""laguna-nano is asked in the very tokens that it was trained on."""

from __future__ import annotations

import random

import pytest

from acp_server.model import Assistant, Message, System, ToolResult, ToolUse, User
from laguna_backend.chat.encoding import Chat
from laguna_backend.chat.template import ChatTemplate
from laguna_backend.nano.checkpoint import TEMPLATE
from laguna_backend.nano.names import Names
from laguna_backend.nano.tasks import draw, play
from laguna_backend.nano.transcript import write_down
from laguna_backend.nano.vocabulary import nano_tokenizer


@pytest.mark.parametrize("thinking", [True, False])
def test_a_conversation_is_encoded_as_the_transcripts_were(thinking: bool) -> None:
    tokenizer = nano_tokenizer()
    chat = Chat(ChatTemplate(TEMPLATE), tokenizer)
    names = Names(random.Random(5))
    for _ in range(100):
        task = draw(names)
        steps = play(task)
        conversation: list[Message] = [System("Be."), User(task.prompt)]
        for number, step in enumerate(steps):
            uses = (ToolUse(str(number), *step.call),) if step.call else ()
            conversation.append(Assistant(step.text, step.thought, uses))
            if step.call:
                conversation.append(ToolResult(str(number), step.call[0], step.response))
        ids = chat.prompt(conversation, [], thinking=thinking).ids
        assert ids[:-2] == write_down(tokenizer, task.prompt, steps, thinking=thinking).ids
