"""A client of ACP agents: a library, `acp exec` and `acp chat`.

    client ─► session ─► turn ─► inbox    Client, Session, Turn: of no version
      │          └► ledger           the session's state, as a Snapshot
      └► opening ─► surface_v1, _v2  what the versions say
    host/                            what the agent may ask of us: files, commands, forms, permission
    provided                         and MCP servers that run here, over the connection itself
    drafts                           what the protocol may still change, opened by name (`Host.unstable`)
    supervisor ─► rejoined, catchup  connects again when the network was lost
    cli/  chat/                      the commands: one prompt, and a conversation in the terminal

Promises. A session's updates come in the order they were sent, and a turn ends behind the last of its own; what comes
outside of turns is kept in `Session.updates`. Leaving a turn's block cancels the turn and waits for its end, a bounded
time. Permission requests that are open then are answered `cancelled`, as are those that the agent withdraws. When the
agent dies, whoever waits gets ConnectionClosed with the agent's last words. A turn that nobody reads makes the agent
wait. What this library does not know comes through as it is. What agents were seen to do beside the protocol is borne;
`tests/acp_client/test_tolerance.py` has the list.

Over a network (`connect("ws://…")`). When the connection is lost it is made again, for a time (`Reconnect`), and the
application hears of it (`on_state`). A prompt is never sent twice: of one that the agent did not get the turn ends with
ConnectionClosed. With our own agent a turn goes on meanwhile; its updates continue where they broke off, each message
and each change of a call told once, and a question is asked again. Not kept: updates without an id, notices, and what
the turn cost. With an agent that does not say what became of a prompt, the turn ends with ConnectionClosed, and the
session is opened again and goes on. One that can only resume tells nothing of what was missed; where its turn goes on,
a notice says so. Whatever else is called while the connection is away raises ConnectionClosed.
"""

from .client import Client, connect
from .drafts import AuthStatus, Drafts, Provider, SessionStatus
from .host.elicitation import Accepted, Declined, Dismissed, Elicit, FormRequest, UrlRequest
from .host.host import Ask, Files, Host, Option, PermissionRequest, allow_all, allow_edits, allow_edits_or, reject_all
from .host.local import LocalFiles
from .host.terminals import LocalTerminals, Terminals
from .launch import CannotStart, own_agent
from .reconnect import ConnectionState, Reconnect
from .session import Session
from .snapshot import Change, Snapshot
from .surface import AgentInfo, SystemPrompt, Usage
from .turn import Turn

__all__ = [
    "Accepted",
    "AgentInfo",
    "Ask",
    "AuthStatus",
    "CannotStart",
    "Change",
    "Client",
    "ConnectionState",
    "Declined",
    "Dismissed",
    "Drafts",
    "Elicit",
    "Files",
    "FormRequest",
    "Host",
    "LocalFiles",
    "LocalTerminals",
    "Option",
    "PermissionRequest",
    "Provider",
    "Reconnect",
    "Session",
    "SessionStatus",
    "Snapshot",
    "SystemPrompt",
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
