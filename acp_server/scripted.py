"""A model that does what the prompt says, word for word: for tests, demonstrations and trying a client.

Each line of the last user message is one command; a command that calls a tool is one step of the model, and after
the last one it says `Done.`:

    say TEXT             the answer TEXT, a word at a time
    think TEXT           a thought before what follows
    count N              the numbers 1 to N, one chunk each
    plan                 a plan of three entries
    read PATH            list [PATH]      glob PATTERN      grep PATTERN
    edit PATH OLD NEW    (quote words with spaces; \\n is a line end)
    write PATH TEXT
    run COMMAND
    call NAME JSON       any tool, any arguments
    parallel PATH…       reads in one step
    slow                 a chunk every 20 ms until it is cancelled
    hang                 nothing until it is cancelled
    long                 stops in the middle: max_tokens
    fail                 ModelError
    crash                an unexpected exception
    bad-call             a call that cannot be parsed
    unknown-tool         a tool that does not exist
    loop                 the same call for ever
    empty                says nothing
    refuse               stops with refusal

Any other line is said back.
"""

from __future__ import annotations

import itertools
import json
import shlex
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import Any

import anyio

from .model import (
    Assistant,
    Message,
    ModelError,
    ModelInfo,
    Part,
    Sampling,
    Stop,
    Text,
    Thought,
    ToolSpec,
    ToolUse,
    Usage,
    User,
)

Cue = Part | BaseException | Callable[[], Any]
"""One thing the scripted model does: say a part, raise, or await what the function returns."""


class ScriptedBackend:
    """A `ModelBackend` that needs no model.

    With `steps`, each call of `generate` plays the next one; a step that names no `Stop` gets the fitting
    one. Without, the prompt's text is the script. `seen` keeps every conversation that was shown.
    """

    def __init__(self, steps: Sequence[Sequence[Cue]] | None = None, *, info: ModelInfo | None = None) -> None:
        self._steps = None if steps is None else iter(steps)
        self._info = info or ModelInfo(name="scripted", context_size=32768)
        self._ids = itertools.count(1)
        self.seen: list[tuple[Message, ...]] = []

    async def ready(self) -> ModelInfo:
        await anyio.lowlevel.checkpoint()
        return self._info

    async def generate(
        self, conversation: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling
    ) -> AsyncGenerator[Part, None]:
        self.seen.append(tuple(conversation))
        began = time.monotonic()
        spoken, last = 0, "end_turn"
        cues = self._scripted(conversation) if self._steps is None else next(self._steps, (Text("Done."),))
        await anyio.lowlevel.checkpoint()
        for cue in cues:
            if isinstance(cue, BaseException):
                raise cue
            if isinstance(cue, Stop):
                yield cue
                return
            if isinstance(cue, (Text, Thought)):
                spoken += 1
                yield cue
            elif callable(cue):
                await cue()
            else:
                last = "tool_use" if isinstance(cue, ToolUse) else last
                yield cue
        size = sum(len(message.text.encode()) for message in conversation) + 200 * len(tools)
        usage = Usage(input=size // 4 + 1, output=spoken)
        yield Stop("tool_use" if last == "tool_use" else "end_turn", usage, time.monotonic() - began)

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()

    def _scripted(self, conversation: Sequence[Message]) -> Iterator[Cue]:
        """The cues of the step that comes next in the last user message."""
        at = max((i for i, m in enumerate(conversation) if isinstance(m, User)), default=-1)
        text = message.text if at >= 0 and isinstance(message := conversation[at], User) else ""
        done = sum(isinstance(m, Assistant) for m in conversation[at + 1 :])
        steps = _steps(text)
        if steps and steps[-1] == ["loop"]:
            done = min(done, len(steps) - 1)
        return self._play(steps[done] if done < len(steps) else ["say Done."])

    def _play(self, lines: Sequence[str]) -> Iterator[Cue]:
        for line in lines:
            word, _, rest = line.partition(" ")
            if word in _SPEECH:
                yield from _SPEECH[word](rest.strip())
            elif word in _CALLS:
                for name, arguments in _CALLS[word](rest.strip()):
                    problem = "the call has no closing tag; write it again" if word == "bad-call" else None
                    yield ToolUse(f"call-{next(self._ids)}", name, arguments, problem)
            elif word == "slow":
                yield from self._slow()
            else:
                yield from _words(line)

    @staticmethod
    def _slow() -> Iterator[Cue]:
        for n in itertools.count(1):
            yield Text(f"{n} ")
            yield lambda: anyio.sleep(0.02)


def _steps(text: str) -> list[list[str]]:
    """The lines of a prompt, cut after every line that calls a tool."""
    steps: list[list[str]] = [[]]
    for line in filter(None, map(str.strip, text.splitlines())):
        steps[-1].append(line)
        if line.partition(" ")[0] in _CALLS:
            steps.append([])
    if not steps[-1]:
        steps.pop()
    elif all(line.startswith("think ") for line in steps[-1]):
        steps[-1].append("say Done.")
    return steps


def _words(text: str) -> Iterator[Cue]:
    for word in text.split(" "):
        yield Text(word + " ")


def _say(text: str) -> Iterator[Cue]:
    words = text.split(" ")
    for n, word in enumerate(words):
        yield Text(word if n == len(words) - 1 else word + " ")


def _unescape(text: str) -> str:
    return text.replace("\\n", "\n").replace("\\t", "\t")


def _edit(rest: str) -> list[tuple[str, Mapping[str, Any]]]:
    path, old, new = (_unescape(word) for word in (*shlex.split(rest), "", "", "")[:3])
    return [("edit", {"path": path, "old_string": old, "new_string": new})]


def _write(rest: str) -> list[tuple[str, Mapping[str, Any]]]:
    path, _, content = rest.partition(" ")
    return [("write", {"path": path, "content": _unescape(content)})]


def _call(rest: str) -> list[tuple[str, Mapping[str, Any]]]:
    name, _, arguments = rest.partition(" ")
    return [(name, json.loads(arguments or "{}"))]


_PLAN = "[x] look\n[~] change\n[ ] check"

_SPEECH: Mapping[str, Callable[[str], Iterator[Cue]]] = {
    "say": _say,
    "think": lambda rest: iter((Thought(rest),)),
    "count": lambda rest: (Text(f"{n} ") for n in range(1, int(rest or 3) + 1)),
    "hang": lambda rest: iter((anyio.sleep_forever,)),
    "long": lambda rest: iter((Text("This answer was cut "), Stop("max_tokens", Usage(1, 0, 4)))),
    "refuse": lambda rest: iter((Text("I will not do that."), Stop("refusal"))),
    "fail": lambda rest: iter((ModelError("the scripted model was told to fail"),)),
    "crash": lambda rest: iter((RuntimeError("the scripted model was told to crash"),)),
    "empty": lambda rest: iter(()),
}

_CALLS: Mapping[str, Callable[[str], Sequence[tuple[str, Mapping[str, Any]]]]] = {
    "read": lambda rest: [("read", {"path": rest})],
    "list": lambda rest: [("list_directory", {"path": rest or "."})],
    "glob": lambda rest: [("glob", {"pattern": rest})],
    "grep": lambda rest: [("grep", {"pattern": rest})],
    "edit": _edit,
    "write": _write,
    "run": lambda rest: [("shell", {"cmd": rest})],
    "plan": lambda rest: [("todo_action", {"todos": _PLAN})],
    "parallel": lambda rest: [("read", {"path": path}) for path in shlex.split(rest)],
    "loop": lambda rest: [("list_directory", {"path": "."})],
    "unknown-tool": lambda rest: [("teleport", {"to": "the moon"})],
    "bad-call": lambda rest: [("read", {})],
    "call": _call,
}
