"""Proxy chains: components between a client and an agent, and the conductor that connects them (proxy chains RFD).

    client ⇄ conductor ⇄ proxy 1 … proxy n, agent

The conductor starts every component and talks to each over a connection of its own; to the client the whole chain is
one agent. A message for the next component towards the agent comes wrapped, as `proxy/successor`; everything else goes
towards the client. `chain` decides where a message goes and `routes` under which id, both without any I/O; `conductor`
moves the texts over `link`s. A `Proxy` (`component`, `passing`) is what the author of a proxy writes: what no hook
takes passes untouched and in order, whatever version or extension it belongs to, for only the envelope is decoded.
"""

from __future__ import annotations

from .component import Proxy, run_proxy
from .conductor import conduct
from .passing import Passing

__all__ = ["Passing", "Proxy", "conduct", "run_proxy"]
