"""The Agent Client Protocol: what is said, who may say it, and how it travels.

    errors  methods  wire │ v1/schema  v2/schema │ updates  plain  pieces  activity  v1/dialect  v2/dialect
    states  merging  report  dispatch ─► peer                                      pure: no I/O, no clock
    ────────────────────────────────────────────────────────────────
    connection    transports/{memory, stdio, child, websocket, http_client}    anyio begins here
    ────────────────────────────────────────────────────────────────
    proxy    conformance                            whole conversations, on top of all the rest

`v1.schema` and `v2.schema` are generated from `spec/`: one pydantic model for each definition, one `Method` for each
method. `updates` is what a session reports in neither version's words, and a `dialect` turns it into one version's and
back; `dialect.DIALECTS` has both, imported when they are spoken. `states` says as tables what may happen when. A `Peer`
is one side of a JSON-RPC conversation as a pure object; a `Connection` runs one over a `Transport`. `proxy` chains
components between a client and an agent, and `conformance` judges either by what it says.

Order. Notifications are handled in the order in which they arrived, and a response reaches its caller only after every
notification that came before it was handled. What one side says is written in the order it was said.

Load. `call` and `notify` wait while more than 64 texts are unsent; answers never wait. Everything that queues is
bounded: a line has at most 32 MiB (a longer one is answered with -32600 and skipped), a peer may have 256 requests
running, and one that never reads is given up at 10,000 texts or 256 MiB.

Cancelling. Cancelling the task that waits in `call` sends `$/cancel_request`; an incoming one cancels the scope of that
request's handler, and the answer is -32800 or the partial result that the handler still returned.

Errors. `RequestError` is a JSON-RPC error object, raised by `call` or by a handler. `LocalProtocolError` says that we
broke the rules and nothing was sent, `ConnectionClosed` that the conversation is over and why; what the peer does wrong
is answered or logged, and raises nothing. Any other exception of a handler is -32603 with a reference to the log, and
nothing else.

Nothing is lost on the way through: unknown fields and unknown variants survive decoding and encoding, and omitted,
null and a value are three things:

    >>> from acp.v1 import schema
    >>> update = schema.SessionNotification.decode(
    ...     {"sessionId": "s1", "update": {"sessionUpdate": "news", "of": "tomorrow"}, "_meta": None}
    ... )
    >>> update.encode()
    {'_meta': None, 'sessionId': 's1', 'update': {'sessionUpdate': 'news', 'of': 'tomorrow'}}
"""
