"""A client of ACP agents: a library, and `acp exec`.

    client ─► session ─► inbox       Client, Session, Turn: of no version
      │          └► ledger           the session's state, as a Snapshot
      └► opening ─► surface_v1, _v2  what the versions say
    host   local terminals forms     what the agent may ask of us; files and commands on this machine
    exec ─► console, asking, events  the command, and what it shows

Promises. A session's updates come in the order they were sent, and a turn ends behind the last of its own; what comes
outside of turns is kept in `Session.updates`. Leaving a turn's block cancels the turn and waits for its end, a bounded
time. Permission requests that are open then are answered `cancelled`, as are those that the agent withdraws. When the
agent dies, whoever waits gets ConnectionClosed with the agent's last words. A turn that nobody reads makes the agent
wait. What this library does not know comes through as it is.
"""

from .client import Client, connect
from .elicitation import Accepted, Declined, Dismissed, Elicit, FormRequest, UrlRequest
from .host import Ask, Files, Host, Option, PermissionRequest, allow_all, allow_edits, allow_edits_or, reject_all
from .launch import CannotStart, own_agent
from .local import LocalFiles
from .session import Session, Turn
from .snapshot import Change, Snapshot
from .surface import AgentInfo, Usage
from .terminals import LocalTerminals, Terminals

__all__ = [
    "Accepted",
    "AgentInfo",
    "Ask",
    "CannotStart",
    "Change",
    "Client",
    "Declined",
    "Dismissed",
    "Elicit",
    "Files",
    "FormRequest",
    "Host",
    "LocalFiles",
    "LocalTerminals",
    "Option",
    "PermissionRequest",
    "Session",
    "Snapshot",
    "Terminals",
    "Turn",
    "UrlRequest",
    "Usage",
    "allow_all",
    "allow_edits",
    "allow_edits_or",
    "connect",
    "own_agent",
    "reject_all",
]
