"""The MCP servers of a session: what a client offers becomes tools of the model.

    offer ─► servers ─► link ─► transports ─► pipes  over_acp ─► carrier     how one is offered, kept and reached
                ├────► tool ─► result                                        a server's tool as one of ours
                └────► finding                                               the tools that there was no room to show

A server is connected to in the background, from the moment its session is opened, and talks to nobody but its session.
A turn waits a bounded time for those that are still starting; one that cannot be reached costs its tools, never the
session. Its tools are called `server__tool`, each call is put to the user like a command, and cancelling one reaches
the server. What the offer holds of secrets, its environment and its headers, is told to the server and to nobody else.

The protocol is the `mcp` package's (extra `mcp`), which is imported when the first server is offered. `carrier` takes
it over the connection that we have already (`mcp/message`, unstable).
"""
