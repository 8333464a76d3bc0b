"""A played task as token ids, in the compact template grammar, with the spans that the model must learn marked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tokenizers import Tokenizer

from ..chat.tokenizer import ASSISTANT, ASSISTANT_END, BOS, THINK, THINK_END, TOOL_CALL, TOOL_CALL_END
from .tasks import Step

# Nano reads no more of a tool's result. What it has to say about one stands in its first line, and the user sees all.
SHOWN_CHARACTERS = 240


def shown(result: str) -> str:
    """As much of a tool's result as nano reads: no remark of the tool's own, such as that the editor has unsaved
    changes, for it was trained without any and took them for a refusal."""
    return result[:SHOWN_CHARACTERS].split("\n[")[0].rstrip()


@dataclass
class Transcript:
    """Token ids, and for each whether the model is to predict it."""

    tokenizer: Tokenizer
    ids: list[int] = field(default_factory=lambda: [BOS])
    learn: list[bool] = field(default_factory=lambda: [False])

    def add(self, *pieces: str | int, learn: bool = False) -> None:
        """Append texts, each encoded by itself, and control tokens by id."""
        for piece in pieces:
            ids = [piece] if isinstance(piece, int) else self.encode(piece)
            self.ids += ids
            self.learn += [learn] * len(ids)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids if text else []

    def user(self, text: str) -> None:
        self.add("<user>", text, "</user>", "\n")

    def prompt(self, thinking: bool) -> None:
        """The generation prompt."""
        self.add(ASSISTANT, THINK if thinking else THINK_END)

    def step(self, step: Step, thinking: bool) -> None:
        """What the assistant says in one step, from behind the generation prompt to the end of its turn."""
        if thinking:
            self.add(step.thought, THINK_END, learn=True)
        self.add(step.text, learn=True)
        if step.call:
            name, arguments = step.call
            self.add(TOOL_CALL, name, learn=True)
            for key, value in arguments.items():
                spelled = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                self.add("<arg_key>", key, "</arg_key>", "<arg_value>", spelled, "</arg_value>", learn=True)
            self.add(TOOL_CALL_END, learn=True)
        self.add(ASSISTANT_END, learn=True)
        self.add("\n")

    def response(self, text: str) -> None:
        self.add("<tool_response>", shown(text), "</tool_response>", "\n")


def write_down(tokenizer: Tokenizer, prompt: str, steps: list[Step], *, thinking: bool = True) -> Transcript:
    """The whole conversation."""
    transcript = Transcript(tokenizer)
    transcript.user(prompt)
    for step in steps:
        transcript.prompt(thinking)
        transcript.step(step, thinking)
        if step.call:
            transcript.response(step.response)
    return transcript
