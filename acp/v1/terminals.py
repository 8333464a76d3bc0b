"""Terminals of the agent in version 1, by a convention of several agents and editors: `_meta` of tool calls.

Version 1 has no word for what version 2 calls `terminal_update`. A client that says `_meta.terminal_output` among its
capabilities takes it so: `terminal_info` comes with the announcement of the call that shows the terminal, and
`terminal_output`, more text, and `terminal_exit` with its changes.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Final

from ..updates import UNSET, ExitStatus, Json, Terminal, TerminalChunk, ToolCall, ToolCallUpdate, Update

CAPABILITY: Final = "terminal_output"
"""Key of the `_meta` of `clientCapabilities`; true for a client that shows such terminals."""


def info(terminal: Terminal) -> dict[str, Json]:
    """What the announcement of a call says under `_meta` of its terminal."""
    cwd = {} if terminal.cwd is UNSET or terminal.cwd is None else {"cwd": terminal.cwd}
    command = {} if terminal.command is UNSET or terminal.command is None else {"command": terminal.command}
    return {"terminal_info": {"terminal_id": terminal.id, **cwd, **command}}


def output(id: str, text: str) -> dict[str, Json]:
    """What a change says: that the terminal has printed more."""
    return {"terminal_output": {"terminal_id": id, "data": text}}


def exit(id: str, status: ExitStatus) -> dict[str, Json]:
    """What a change says: that the terminal has ended."""
    return {"terminal_exit": {"terminal_id": id, "exit_code": status.code, "signal": status.signal}}


def terminals_of(update: Update) -> Sequence[Terminal | TerminalChunk]:
    """What an update says of terminals under its `_meta`, in the order in which it is to be taken."""
    if not isinstance(update, ToolCall | ToolCallUpdate) or not update.meta:
        return ()
    told: list[Terminal | TerminalChunk] = []
    match update.meta.get("terminal_info"):
        case {"terminal_id": str(id), **about}:
            told.append(Terminal(id, _text(about, "command"), _text(about, "cwd")))
        case _:
            pass
    match update.meta.get("terminal_output"):
        case {"terminal_id": str(id), "data": str(data)}:
            told.append(TerminalChunk(id, base64.b64encode(data.encode("utf-8", "replace")).decode()))
        case _:
            pass
    match update.meta.get("terminal_exit"):
        case {"terminal_id": str(id), **how}:
            code, signal = how.get("exit_code"), how.get("signal")
            status = ExitStatus(code if type(code) is int else None, signal if isinstance(signal, str) else None)
            told.append(Terminal(id, exit=status))
        case _:
            pass
    return told


def _text(about: Mapping[str, Json], name: str) -> Json:
    value = about.get(name)
    return value if isinstance(value, str) else UNSET
