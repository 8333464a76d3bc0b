"""What the tests of training share: a small file of conversations, and the pieces of a run over a tiny checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from laguna_backend.chat.encoding import Chat
from laguna_backend.checkpoint.configuration import read_config
from laguna_backend.checkpoint.weights import load_weights
from laguna_backend.loading import chat_template, tokenizer_of
from laguna_backend.model.linear import Packer
from laguna_backend.train.conversations import read_documents
from laguna_backend.train.network import Network
from laguna_backend.train.packing import Document

READ_TOOL: Mapping[str, Any] = {"type": "function", "function": {"name": "read", "description": "Read a file"}}


def conversation(number: int) -> dict[str, Any]:
    """A conversation of one of three kinds, of a length of its own."""
    path = f"{'abc'[number % 3] * (1 + number % 5)}.py"
    ask = {"role": "user", "content": f"read {path}"}
    if number % 3 == 0:
        return {"messages": [ask, {"role": "assistant", "content": f"{path} it is"}]}
    call = {"type": "function", "function": {"name": "read", "arguments": json.dumps({"path": path})}}
    messages = [ask, {"role": "assistant", "content": "", "reasoning": "I read.", "tool_calls": [call]}]
    messages += [{"role": "tool", "content": "x\n" * (number % 7)}, {"role": "assistant", "content": f"read {path}"}]
    return {"messages": messages, "tools": [READ_TOOL]}


def write_conversations(path: Path, count: int = 12) -> Path:
    path.write_text("".join(json.dumps(conversation(number)) + "\n" for number in range(count)), encoding="utf-8")
    return path


def chat_of(checkpoint: Path) -> Chat:
    return Chat(chat_template(checkpoint), tokenizer_of(checkpoint))


def documents_of(checkpoint: Path, file: Path) -> list[Document]:
    return read_documents(file, chat_of(checkpoint), longest=1000)


def network_of(
    checkpoint: Path, precision: Any = "bf16", *, frozen: torch.dtype = torch.float32, **how: Any
) -> Network:
    """A network over a checkpoint's weights; `frozen` is the dtype that they are loaded in."""
    config = read_config(checkpoint)
    return Network(config, load_weights(checkpoint, config, dtype=frozen, packer=Packer(precision)).weights, **how)


def logged(run: Path) -> list[dict[str, Any]]:
    """The steps in a run's log."""
    lines = (json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if "loss" in line]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in logged(run)]


def tokens_of(documents: Sequence[Document]) -> int:
    return sum(document.inputs for document in documents)
