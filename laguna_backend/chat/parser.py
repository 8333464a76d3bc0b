"""What the model says, token by token, as parts: thoughts, text and tool uses.

Control tokens are known by id: `</think>`, `<tool_call>` and the rest, spelled out in letters, are what the model
talks about, not what it does. Two spellings count all the same, since models make them: `</assistant>` ends the turn,
and `<tool_call>` begins a call when the name of a declared tool follows at once. However the stream is cut into tokens,
the parts join to the same result.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from enum import Enum

from acp_server.model import Part, Text, Thought, ToolSpec, ToolUse, ToolUseArguments, ToolUseStarted
from acp_server.spelled.call import CALL_ENDS, NAME_ENDS, inside_a_value, parse_call

from . import tokenizer as ids
from .arguments import ArgumentStream

TURN_ENDS = "</assistant>"
CALL_BEGINS = "<tool_call>"


class State(Enum):
    THOUGHT = "thought"
    TEXT = "text"
    TOOL = "tool"
    DONE = "done"


class ReplyParser:
    """Parses one step. `token_bytes` gives the bytes of a token id; `new_id` names the next tool use."""

    def __init__(
        self,
        token_bytes: Callable[[int], bytes],
        tools: Sequence[ToolSpec],
        new_id: Callable[[], str],
        *,
        thinking: bool,
    ) -> None:
        self.token_bytes, self.new_id = token_bytes, new_id
        self.tools = {tool.name: tool for tool in tools}
        self.state = State.THOUGHT if thinking else State.TEXT
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.held = ""  # text not yet emitted: it may turn out to be a tag, or newlines at an end
        self.fresh = True  # nothing emitted since the state began: leading newlines are the template's
        self.body = ""  # of the tool call being written
        self.spelled = False  # whether that call was begun by letters, and so may end by them
        self.call_id: str | None = None
        self.arguments: ArgumentStream | None = None
        self.tool_uses = 0

    @property
    def done(self) -> bool:
        """The turn is over, by a control token or by its spelling."""
        return self.state is State.DONE

    @property
    def thinking(self) -> bool:
        """The next token is a thought."""
        return self.state is State.THOUGHT

    def feed(self, token: int, text: bytes | None = None) -> list[Part]:
        """The parts that one more token completes; `text` is what is left of its own after a text to stop at."""
        if text is not None:
            return [] if self.done else self.add(self.decoder.decode(text))
        match self.state, token:
            case State.DONE, _:
                return []
            case _, ids.EOS | ids.ASSISTANT_END | ids.ASSISTANT:  # a new turn ends the old one too
                return self.finish()
            case State.THOUGHT, ids.THINK:  # the prompt has it already; some models echo it
                return []
            case State.TEXT, ids.THINK:
                return self.enter(State.THOUGHT)
            case State.THOUGHT, ids.THINK_END:
                return self.enter(State.TEXT)
            case State.THOUGHT | State.TEXT, ids.TOOL_CALL:
                return self.enter(State.TOOL)
            case State.TOOL, ids.TOOL_CALL if not inside_a_value(self.body):
                return self.end_call(complete=False) + self.enter(State.TOOL)
            case State.TOOL, ids.TOOL_CALL_END:
                return self.end_call(complete=True)
            case State.THOUGHT | State.TEXT, ids.THINK_END | ids.TOOL_CALL_END:  # closes nothing
                return []
            case _:
                return self.add(self.decoder.decode(self.token_bytes(token)))

    def finish(self, *, cut_off: bool = False) -> list[Part]:
        """The stream is over: what is held is emitted, a call that was left open is reported.

        `cut_off`: the model did not end it, so that nobody knows what an open call would have said.
        """
        if self.done:
            return []
        tail = self.add(self.decoder.decode(b"", final=True))
        if self.done:  # the held text ended the turn
            return tail
        tail += self.end_call(complete=False, cut_off=cut_off) if self.state is State.TOOL else self.flush()
        self.state = State.DONE
        return tail

    # Text ------------------------------------------------------------------------------------------------

    def add(self, text: str) -> list[Part]:
        if not text:
            return []
        if self.state is State.TOOL:
            return self.add_to_call(text)
        self.held += text
        if self.state is State.THOUGHT:
            return self.emit(len(self.held))
        parts: list[Part] = []
        while True:
            end, begin = self.held.find(TURN_ENDS), self.held.find(CALL_BEGINS)
            if end >= 0 and not 0 <= begin < end:
                self.held = self.held[:end]
                parts += self.flush()
                self.state = State.DONE
                return parts
            if begin < 0:
                return parts + self.emit(len(self.held) - self.undecided())
            parts += self.emit(begin)
            begin = self.held.find(CALL_BEGINS)  # newlines before it may be left
            rest = self.held[begin + len(CALL_BEGINS) :]
            verdict = self.begins_call(rest)
            if verdict is None:
                return parts
            if verdict:
                self.held = self.held[:begin]
                parts += self.enter(State.TOOL)
                self.spelled = True
                return parts + self.add_to_call(rest)
            parts += self.emit(begin + len(CALL_BEGINS))

    def begins_call(self, rest: str) -> bool | None:
        """Whether what follows a spelled `<tool_call>` is the name of a tool; None: too early to say."""
        rest = rest.lstrip("\n")
        undecided = False
        for name in self.tools:
            for end in NAME_ENDS:
                if rest.startswith(name + end):
                    return True
                undecided = undecided or (name + end).startswith(rest)
        return None if undecided else False

    def undecided(self) -> int:
        """Length of the held text's tail that may yet become a tag."""
        for size in range(min(len(self.held), len(TURN_ENDS) - 1), 0, -1):
            if TURN_ENDS.startswith(self.held[-size:]) or CALL_BEGINS.startswith(self.held[-size:]):
                return size
        return 0

    def emit(self, size: int) -> list[Part]:
        """Emit the first `size` characters held, but for newlines at either end, which the template puts there."""
        text = self.held[:size]
        if self.fresh:
            text = text.lstrip("\n")
        kept = text.rstrip("\n")
        self.held = text[len(kept) :] + self.held[size:]
        if not kept:
            return []
        self.fresh = False
        return [Thought(kept) if self.state is State.THOUGHT else Text(kept)]

    def flush(self) -> list[Part]:
        """Emit all that is held; newlines at the end are dropped."""
        parts = self.emit(len(self.held))
        self.held = ""
        return parts

    def enter(self, state: State) -> list[Part]:
        """Emit what is held and begin a new state, unless the held text turns out to end the turn."""
        parts = self.add(self.decoder.decode(b"", final=True))
        if self.state is State.DONE:
            return parts
        parts += self.flush()
        self.begin(state)
        return parts

    def begin(self, state: State) -> None:
        self.decoder.reset()
        self.state, self.fresh, self.held = state, True, ""
        self.body, self.call_id, self.spelled, self.arguments = "", None, False, None

    # Calls -----------------------------------------------------------------------------------------------

    def add_to_call(self, text: str) -> list[Part]:
        searched = max(0, len(self.body) - len(CALL_ENDS))
        self.body += text
        parts: list[Part] = []
        if self.call_id is None:
            named = self.body.lstrip("\n")
            ends = [at for at in (named.find(end) for end in NAME_ENDS) if at > 0]
            if ends and (name := named[: min(ends)].strip()) in self.tools:
                self.call_id = self.new_id()
                self.arguments = ArgumentStream(self.tools[name], len(self.body) - len(named) + min(ends))
                parts.append(ToolUseStarted(self.call_id, name))
        while self.spelled and (at := self.body.find(CALL_ENDS, searched)) >= 0:
            searched = at + 1
            if not inside_a_value(self.body[:at]):
                after = self.body[at + len(CALL_ENDS) :]
                self.body = self.body[:at]
                return parts + self.end_call(complete=True) + self.add(after)
        if self.call_id and self.arguments and (more := self.arguments.feed(self.body)):
            parts.append(ToolUseArguments(self.call_id, more))
        return parts

    def end_call(self, *, complete: bool, cut_off: bool = False) -> list[Part]:
        body, call_id = self.body + self.decoder.decode(b"", final=True), self.call_id or self.new_id()
        name, arguments, problem = parse_call(body, self.tools, complete=complete)
        if cut_off:
            problem = problem or "the call was cut off; write long values in several calls"
        more = self.arguments.finish(arguments, problem) if self.arguments else ""
        self.begin(State.TEXT)
        self.tool_uses += 1
        rest = [ToolUseArguments(call_id, more)] if more else []
        return [*rest, ToolUse(call_id, name, arguments, problem)]
