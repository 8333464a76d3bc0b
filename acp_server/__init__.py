"""The agent: a language model that works in a directory through tools, for a client that speaks ACP.

    agent ─► endpoint ─► surface_v1, _v2 ─► sessions ─► session ─► turn/ ─► tools/ ─► workspace/
                                               └► storage/  shelter   ├► mcp/  terminals/    where each of these
    network/                                                          └► model               has its own chapter

`agent.Agent` is what it is made of, `agent.serve` talks to one client over any transport, and `python -m acp_server`
does so on stdin and stdout; `acp serve` for clients on the `network`. A `session` is a directory, a history that its
`teller` keeps in `storage` before it says it, and one `turn` at a time, whose `tools` work in a `workspace`; `mcp`
has those of the MCP servers that the client offers, and `terminals` shows what commands print. `model.ModelBackend`
is the seam to a model; `scripted.ScriptedBackend` is one that needs no weights, `openai` one behind an endpoint.

What it promises:

- **A turn always ends, truthfully**: with a stop reason, or with an error when the model failed, which the
  user has then also been shown. A model that goes round in circles is stopped, as is one that never ends.
- **Cancelling takes less than a second.** The turn answers `cancelled` even when a child process or the model
  lingers; what it left behind is cleaned up beside the next turn. Cancelling nothing is nothing.
- **Order.** A tool call is announced with all that a user needs to judge it, before it is asked for; it ends
  exactly once; the results reach the model in the order of its calls. Every update of a turn comes before its
  response.
- **One turn at a time in a session.** A second prompt is refused with -32600 in version 1 and waits in version 2, where
  cancelling refuses those that wait with -32800. Sessions do not wait for each other.
- **Both versions, one agent.** `endpoint` chooses at initialize; `surface_v1` and `surface_v2` say the same sessions in
  their version's words.
- **Nothing said is lost.** Sessions are in a `Store`: in memory, or a journal on disk that one writer holds at a time.
  What is told is in it before, so a process that is killed loses none of it; it is on the disk when a turn has ended.
  What a killed agent left open is said to have failed, and its turn to have been cut short.
- **What runs in the background** outlives its turn and never its session: it ends, with all that it started, when the
  session is closed or the agent ends. Version 2 lists it with every state; version 1 is told the end by a notice.
- **After `session/close` has been answered** nothing is said about the session.
- **A lost connection ends no turn** (`shelter`, over the network): the session goes on for a grace time, and whoever it
  belongs to gets it back by `session/load` or `session/resume` on a new connection, with what became of the last
  prompt in `_meta`. A connection that names the one it replaces (`Acp-Connection-Id`, over HTTP `Acp-Laguna-Replaces`)
  ends that one.
- **A session belongs to the principal that made it**; to others it does not exist.
- **Bounds.** Updates wait for a slow client and the model waits with them; results, prompts and histories are
  held within the model's context window.
- **A conversation that outgrows that window goes on.** Old results are left out first; then the model is asked for a
  summary, which is told as a compaction (to a v1 client that knows none, as a call) and shown to it from then on,
  behind all that the user has said, word for word. The log keeps everything. `/compact` does it at once. A model that
  cannot summarise is shown the last turns only.
"""
