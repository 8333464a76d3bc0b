"""Where sessions are kept: what a store promises, and the stores that there are.

    store ─► memory  journal  owned_store     in memory; on disk, append-only, one writer; as one principal sees it
    history ─► record                         a session's log, as it is written and read; its entries as JSON

A log is entries in the order in which they were told, each kept before it is; what they mean only `history` knows. A
turn whose process died is ended when its session is opened again: its open calls have failed, and the user, the model
and the client that asked are told that it was cut short.
"""
