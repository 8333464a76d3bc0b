"""A client of ACP agents: a library, and `acp exec`.

    client ─► session          Client, Session, Turn: version-free
      └► surface_v1            what v1 says
    host   local               what the agent may ask of us; files on this disk
    exec ─► console            the command, and what it shows

Promises: a session's updates come in the order they were sent, and a turn ends only behind the last of its own. Leaving
a turn's block cancels the turn. Permission requests that are open then are answered `cancelled`. When the agent dies,
whoever waits gets ConnectionClosed with the agent's last words. What this library does not know comes through as it is.
"""

from .client import CannotStart, Client, connect
from .host import Ask, Files, Host, Option, PermissionRequest, allow_all, allow_edits, reject_all
from .local import LocalFiles
from .session import Session, Turn

__all__ = [
    "Ask",
    "CannotStart",
    "Client",
    "Files",
    "Host",
    "LocalFiles",
    "Option",
    "PermissionRequest",
    "Session",
    "Turn",
    "allow_all",
    "allow_edits",
    "connect",
    "reject_all",
]
