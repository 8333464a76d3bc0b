"""Training files: conversations, one in a line, as token ids in which exactly what the model said is to be learnt.

A line is an object with `messages` and, if tools were offered, `tools`, both in OpenAI's form (`chat.openai`). `weight`
0 at an assistant's message has it read and not learnt. `thinking` says whether the model was to think; without it,
whether it did.

What is learnt stands where it stood when it was said: each step's prompt is what the runtime would have shown
(`chat.encoding`), and what the checkpoint's own template writes for the message behind it, up to the tag that ends the
turn, is what the model is to say, encoded apart from the prompt as generated tokens are. A template that shows the past
in another way than it was said (without its thoughts, or from the last request on) makes more than one document of a
conversation, so that every step is learnt as it will be seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from acp_server.model import Assistant, Message, ToolSpec

from ..chat.encoding import Chat
from ..chat.openai import ConversationError, read_messages, read_tools
from ..chat.said import steps
from ..chat.template import TemplateFailure
from .errors import DataError
from .packing import Document


@dataclass(frozen=True)
class Conversation:
    """One line: messages, tools, whether the model was to think, and for each assistant's message if it is learnt."""

    messages: Sequence[Message]
    tools: Sequence[ToolSpec]
    thinking: bool
    learn: Sequence[bool]


def read_conversation(line: str) -> Conversation:
    """A conversation from its line. Raises ConversationError."""
    try:
        raw: Any = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ConversationError(f"not JSON: {error}") from error
    if not isinstance(raw, dict) or "messages" not in raw:
        raise ConversationError("not an object with messages")
    fields = cast("dict[str, Any]", raw)
    messages, tools = read_messages(fields["messages"]), read_tools(fields.get("tools"))
    said = [message for message in messages if isinstance(message, Assistant)]
    learn = [_weight(one) for one in fields["messages"] if one["role"] == "assistant"]
    if not any(learn):
        raise ConversationError("nothing to learn: no assistant's message of weight 1")
    thinking = fields.get("thinking")
    if thinking is not None and not isinstance(thinking, bool):
        raise ConversationError(f"thinking is {thinking!r}, not true or false")
    return Conversation(messages, tools, any(m.thought for m in said) if thinking is None else thinking, learn)


def _weight(message: dict[str, Any]) -> bool:
    weight = message.get("weight")
    if isinstance(weight, bool) or weight not in (None, 0, 1):
        raise ConversationError(f"weight is {weight!r}, not 0 or 1")
    return weight != 0


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def written_down(chat: Chat, conversation: Conversation, where: str = "") -> list[Document]:
    """The documents of a conversation. Raises ConversationError: the template refuses it, or cannot be learnt from."""
    documents: list[Document] = []
    ids: list[int] = []
    learn: list[bool] = []
    try:
        for said, learnt in zip(
            steps(chat, conversation.messages, conversation.tools, thinking=conversation.thinking),
            conversation.learn,
            strict=True,
        ):
            if said.prompt[: len(ids)] != ids:
                documents.append(Document.of(ids, learn, where))
                ids, learn = [], []
            learn += [False] * (len(said.prompt) - len(ids)) + [learnt] * len(said.ids)
            ids = said.prompt + said.ids
    except TemplateFailure as error:
        raise ConversationError(str(error)) from error
    documents.append(Document.of(ids, learn, where))
    return [document for document in documents if bool(document.learn.any())]


def read_documents(path: Path, chat: Chat, *, longest: int) -> list[Document]:
    """Every conversation of a file. Raises DataError with file and line: not UTF-8, not JSON, not a conversation, or
    longer than `longest` tokens."""
    found: list[Document] = []
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            documents = written_down(chat, read_conversation(line), where)
        except ConversationError as error:
            raise DataError(f"{where}: {error}") from error
        for document in documents:
            if document.inputs > longest:
                raise DataError(f"{where}: {document.inputs} tokens are more than {longest}, the length of a pack")
        found += documents
    if not found:
        raise DataError(f"{path}: no conversation in it")
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, counted from 1."""
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.decode("utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: not UTF-8: {error.reason}") from error
