"""One prompt turn: the model speaks, its tools run, the model speaks again, until it stops.

    turn ─► step ─► chunks            one step of the model; its words, joined into updates
      ├► calls ─► announcement  job   the tool calls of a step; how each is first shown; work that ends by itself
      ├► conversation ─► carried      the history that fits the model's context
      ├► compaction                   has the model summarise what no longer does
      └► guard                        notices when a model goes round in circles

Of no protocol version, no transport and no model.
"""
